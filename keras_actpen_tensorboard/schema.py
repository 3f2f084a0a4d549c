"""What PenaltyMonitor writes for the Activations tab, and the tab reads.

Pure Python without imports of its own, so that the writer, which has Keras,
and the tab, which has TensorBoard alone, can share it.

All values below are tensors (DATA_CLASS_TENSOR) of the TensorBoard plugin
`PLUGIN`, in the runs `actpen/train` and `actpen/validation` of a log
directory. The step is the epoch, from 0, as it is for the curves.

`keras_actpen/model` (run `actpen/train`, step 0, written when training starts
and again when it is resumed; the last one counts): a string, the UTF-8 JSON

    {
      "schema": 1,
      "version": "0.2.0",            of keras_actpen
      "model": "functional",         its name
      "statistics": {                what each statistic means
        "mean": "Mean of all finite activations.", ...
      },
      "layers": [                    in model order
        {
          "path": "encoder/dense_4",
          "class": "Dense",
          "output_shape": "(None, 96)",    text, "" if not known
          "places": [                what statistics are taken of
            {
              "on": "output",        or "preactivation", "input", ...
              "output": 0,           index or key of the output
              "kind": "activation",  how its tags begin
              "path": "encoder/dense_4"    how its tags end
            }, ...
          ],
          "terms": [                 [] for a layer that is only watched
            {
              "name": "l1",
              "on": "output",
              "penalty": "L1(coefficient=0.01, reduction='batch')",
              "formula": "c * sum|h| / batch",    "" if not known
              "coefficient": 0.01    when training starts
            }, ...
          ]
        }, ...
      ]
    }

`keras_actpen/findings` (run `actpen/train`; in epochs that have any): a
string, the UTF-8 JSON

    {
      "schema": 1,
      "findings": [                  in the order in which they are told
        {
          "kind": "dead",
          "path": "encoder/dense_4", of the layer
          "term": null,              or the name of the term it is about
          "value": 0.84,
          "threshold": 0.5,
          "message": "84 % of units are dead"    without the path
        }, ...
      ]
    }

JSON is strict: a number that is none is one of the strings "NaN", "Infinity"
and "-Infinity".

`keras_actpen/units/<path>` (both runs, every epoch that saw any): float16 of
shape `(units,)`, for each unit the share of the positions in which it is not
0. A share above 0 is stored as `SMALLEST_RATE` at least, so that 0 stands for
"never".

`keras_actpen/positions` (both runs, every epoch): float64 of shape
`(places,)`, for all places of all layers, in the order of the model document,
the number of positions by which the units were judged, 0 if none was seen.

`keras_actpen/values/<path>` (both runs, epochs with histograms): float64 of
shape `(buckets, 3)`, rows of left edge, right edge and count in ascending
order: what the stock page shows as `activation.values/<path>`.

The tags of a place whose kind is not "activation" have the kind in front of
the quantity: `keras_actpen/preactivation.values/<path>`.

Everything else the tab reads are the curves of the stock pages (plugin
`scalars`): `metric/<name>`, `Overview/penalty_total`,
`Overview/penalty_share`, `Overview/task_loss`, `penalty/<path>/<term>`,
`penalty.share/<path>/<term>`, `penalty.coefficient/<path>/<term>`,
`<kind>.<statistic>/<path>`.
"""

PLUGIN = "keras_actpen"

# Number of the format; a change that an older tab would misread raises it.
SCHEMA = 1

MODEL = "keras_actpen/model"
FINDINGS = "keras_actpen/findings"
POSITIONS = "keras_actpen/positions"

# Group of the curves about all penalties together.
OVERVIEW = "Overview"

# The smallest number above 0 of a float16.
SMALLEST_RATE = 2.0**-24


def statistic_tag(statistic: str, kind: str, path: str) -> str:
    """Tag of the curve of a statistic at a place."""
    return f"{kind}.{statistic}/{path}"


def units_tag(kind: str, path: str) -> str:
    """Tag of the firing rates of the units at a place."""
    return _tag("units", kind, path)


def values_tag(kind: str, path: str) -> str:
    """Tag of the histograms of the values at a place."""
    return _tag("values", kind, path)


def _tag(quantity: str, kind: str, path: str) -> str:
    if kind != "activation":
        quantity = f"{kind}.{quantity}"
    return f"{PLUGIN}/{quantity}/{path}"
