// The parts of ECharts that the Activations tab uses.
import { CustomChart, LineChart, ScatterChart } from "echarts/charts";
import { GridComponent, TooltipComponent } from "echarts/components";
import { use } from "echarts/core";
import { CanvasRenderer } from "echarts/renderers";

export { getInstanceByDom, init } from "echarts/core";

use([
  CanvasRenderer,
  CustomChart,
  GridComponent,
  LineChart,
  ScatterChart,
  TooltipComponent,
]);
