"""What the tab reads of a log, through TensorBoard's data provider alone.

So it works with every loader, and sees what they have loaded so far.
"""

import base64
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from tensorboard.context import RequestContext
from tensorboard.data.provider import DataProvider

from keras_actpen_tensorboard import documents, old_logs, schema
from keras_actpen_tensorboard.curves import aligned, evenly, group_and_name
from keras_actpen_tensorboard.documents import NotReadableError, number
from keras_actpen_tensorboard.provider import ALL, Listed, Provider, text_of
from keras_actpen_tensorboard.run_names import (
    natural,
    short_names,
    training_run,
    validation_run,
)

# Findings that are sent at once, the latest ones.
_MOST_FINDINGS = 20_000


class Log:
    """The log directory, as one request sees it.

    A training is named by its run that ends with `train`; its validation is
    the run beside it.

    Args:
        provider: What TensorBoard reads logs with.
        ctx: Context of the request.
        experiment: Experiment of the request.
        listed: What the requests of one server share, see `Provider`.
    """

    def __init__(
        self,
        provider: DataProvider,
        ctx: RequestContext,
        experiment: str,
        listed: Listed | None = None,
    ):
        listed = {} if listed is None else listed
        self._provider = Provider(provider, ctx, experiment, listed)

    def old_runs(self) -> dict[str, float]:
        """Runs of 0.1.0 with the time of what they say is attached."""
        return self._provider.times("text", old_logs.ATTACHED)

    def trainings(self) -> list[dict[str, Any]]:
        """All trainings, by name, with how far they are."""
        old = self.old_runs()
        new = self._provider.times(schema.PLUGIN, schema.MODEL)
        starts = {**old, **new}
        if not starts:
            return []
        progress = self._provider.progress()
        runs = self._provider.runs()
        names = short_names(starts)
        trainings = []
        for run in sorted(starts, key=lambda run: natural(names[run])):
            step, time = progress.get(run, (None, starts[run]))
            validation = validation_run(run, runs)
            trainings.append(
                {
                    "run": run,
                    "name": names[run],
                    "step": step,
                    "time": time,
                    "validation": validation,
                    "validation_step": progress.get(validation, (None, 0))[0],
                }
            )
        return trainings

    def training(self, run: str) -> dict[str, Any]:
        """What is attached in a training, and which curves it has.

        Raises:
            NotReadableError: If the run holds no data of ours, or of another
                schema.
        """
        tags = self._provider.scalar_tags(run)
        model = self._model(run, tags)
        kinds = sorted(
            {
                place["kind"]
                for layer in model["layers"]
                for place in layer["places"]
            }
        )
        groups = dict.fromkeys(sorted(group_and_name(tag)[0] for tag in tags))
        return {
            **model,
            "metrics": sorted(
                tag.partition("/")[2]
                for tag in tags
                if tag.startswith("metric/")
            ),
            "groups": list(groups),
            "statistics": {
                kind: [
                    group.partition(".")[2]
                    for group in groups
                    if group.startswith(f"{kind}.")
                    and group != f"{kind}.std_band"
                ]
                for kind in kinds
            },
        }

    def curves(
        self,
        run: str,
        groups: Sequence[str],
        path: str | None = None,
        *,
        after: int = 0,
        points: int = ALL,
    ) -> dict[str, Any]:
        """All curves of some groups, those of a group with common steps.

        Args:
            run: A run of a training.
            groups: What stands before the first `/` of their tags.
            path: Only what belongs to this place or layer.
            after: The first step that is asked for.
            points: How many points a curve has at most.
        """
        wanted: dict[str, dict[str, str]] = {group: {} for group in groups}
        for tag in self._provider.scalar_tags(run):
            group, name = group_and_name(tag)
            if group in wanted and (
                path is None or name == path or name.startswith(f"{path}/")
            ):
                wanted[group][tag] = name
        tags = [tag for names in wanted.values() for tag in names]
        read = self._provider.scalars([run], tags, points).get(run, {})
        return {
            "groups": {
                group: aligned(
                    {
                        name: {
                            datum.step: datum.value
                            for datum in read.get(tag, ())
                            if datum.step >= after
                        }
                        for tag, name in sorted(names.items())
                    }
                )
                for group, names in wanted.items()
            }
        }

    def finals(self, tags: Sequence[str]) -> dict[str, Any]:
        """Last value of some curves in all runs, by run and tag."""
        written = {tag: tag for tag in tags} | {
            tag.replace(schema.OVERVIEW, old_logs.OVERVIEW, 1): tag
            for tag in tags
            if group_and_name(tag)[0] == schema.OVERVIEW
        }
        read = self._provider.scalars(None, list(written), 1)
        return {
            run: {
                written[tag]: number(data[-1].value)
                for tag, data in of_run.items()
                if data
            }
            for run, of_run in read.items()
        }

    def values(
        self, run: str, kind: str, path: str, *, after: int, points: int
    ) -> dict[str, Any]:
        """Histograms of the values at a place: steps and their buckets."""
        for plugin, tag in (
            (schema.PLUGIN, schema.values_tag(kind, path)),
            ("histograms", schema.statistic_tag("values", kind, path)),
        ):
            read = self._provider.tensors(run, plugin, tag, after)
            buckets = {
                step: array
                for step, array in read.items()
                if array.ndim == 2 and array.shape[1] == 3
            }
            if buckets:
                break
        steps = evenly(sorted(buckets), points)
        return {
            "steps": steps,
            "buckets": [
                [[number(x) for x in row] for row in buckets[step].tolist()]
                for step in steps
            ],
        }

    def units(
        self, run: str, kind: str, path: str, *, after: int, points: int
    ) -> dict[str, Any]:
        """Firing rates of the units at a place.

        Returns:
            The steps, the number of units, their rates as float16 of shape
            `(steps, units)` in base64, and the positions judged by or `None`.
        """
        rates = self._provider.tensors(
            run, schema.PLUGIN, schema.units_tag(kind, path), after
        )
        units = max((array.size for array in rates.values()), default=0)
        whole = [step for step in sorted(rates) if rates[step].size == units]
        steps = evenly(whole, points)
        data = np.array([rates[step] for step in steps], dtype="<f2")
        return {
            "steps": steps,
            "units": units,
            "rates": base64.b64encode(data.tobytes()).decode(),
            "positions": self._positions(run, kind, path, steps),
        }

    def findings(self, run: str, after: int = 0) -> dict[str, Any]:
        """What was found in a training, latest first.

        Returns:
            The findings, each with its epoch, and messages about epochs whose
            findings cannot be read.
        """
        found, damaged = [], []
        old = not self._provider.times(schema.PLUGIN, schema.MODEL, run)
        plugin, tag = (
            ("text", old_logs.FINDINGS)
            if old
            else (schema.PLUGIN, schema.FINDINGS)
        )
        paths = (
            [layer["path"] for layer in self._model(run)["layers"]]
            if old
            else []
        )
        for epoch, text in sorted(
            self._provider.tensors(run, plugin, tag, after).items(),
            reverse=True,
        ):
            try:
                content = text_of(text)
                of_epoch = (
                    old_logs.findings(content.decode(), paths)
                    if old
                    else documents.findings(content)
                )
            except ValueError as error:
                damaged.append(f"Epoch {epoch}: {error}")
                continue
            found += [{"epoch": epoch, **finding} for finding in of_epoch]
            if len(found) >= _MOST_FINDINGS:
                break
        return {"findings": found[:_MOST_FINDINGS], "damaged": damaged}

    def _model(
        self, run: str, tags: Iterable[str] | None = None
    ) -> dict[str, Any]:
        written = self._provider.tensors(run, schema.PLUGIN, schema.MODEL)
        if written:
            return documents.model(text_of(written[max(written)]))
        written = self._provider.tensors(run, "text", old_logs.ATTACHED)
        if not written:
            raise NotReadableError(
                f"The run {run!r} holds no data of PenaltyMonitor."
            )
        text = text_of(written[max(written)]).decode()
        return old_logs.model(
            text, self._provider.scalar_tags(run) if tags is None else tags
        )

    def _positions(
        self, run: str, kind: str, path: str, steps: Sequence[int]
    ) -> list[float | None]:
        judged = self._provider.tensors(run, schema.PLUGIN, schema.POSITIONS)
        try:
            # A validation has the places of its training.
            model = self._model(training_run(run))
        except NotReadableError:
            return [None] * len(steps)
        places = [
            (place["kind"], place["path"])
            for layer in model["layers"]
            for place in layer["places"]
        ]
        index = places.index((kind, path)) if (kind, path) in places else -1
        return [
            float(judged[step][index])
            if 0 <= index < judged.get(step, np.zeros(0)).size
            else None
            for step in steps
        ]
