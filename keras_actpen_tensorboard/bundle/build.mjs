// Builds the committed bundle and copies the licenses that go with it.
import { build } from "esbuild";
import { copyFileSync } from "node:fs";

const STATIC = "../static";

await build({
  entryPoints: ["entry.js"],
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2020",
  legalComments: "none",
  banner: {
    js: "/* Apache ECharts 6.1.0 and zrender 6.1.0, see the *.txt files beside this one. */",
  },
  outfile: `${STATIC}/echarts.js`,
});
for (const [from, to] of [
  ["echarts/LICENSE", "echarts.LICENSE.txt"],
  ["echarts/NOTICE", "echarts.NOTICE.txt"],
  ["echarts/licenses/LICENSE-d3", "d3.LICENSE.txt"],
  ["zrender/LICENSE", "zrender.LICENSE.txt"],
]) {
  copyFileSync(`node_modules/${from}`, `${STATIC}/${to}`);
}
