// The parts of ECharts that the Activations tab uses.
export {
  init,
  use,
  getInstanceByDom,
  graphic,
} from "echarts/core";
import { use } from "echarts/core";
import { CustomChart, LineChart, ScatterChart } from "echarts/charts";
import {
  AriaComponent,
  GridComponent,
  TooltipComponent,
} from "echarts/components";
import { CanvasRenderer } from "echarts/renderers";

use([
  AriaComponent,
  CanvasRenderer,
  CustomChart,
  GridComponent,
  LineChart,
  ScatterChart,
  TooltipComponent,
]);
