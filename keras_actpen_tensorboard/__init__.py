"""The Activations tab of TensorBoard.

TensorBoard loads the entry point `plugin:ActivationsLoader` wherever this
package is installed. Nothing here imports Keras, a backend or `keras_actpen`:
a server that shows logs made elsewhere has none of them.

To add a page: a module in `static/pages/` and its name in `static/app.js`; the
parts that pages are made of are in `static/panels/`, the charts in
`static/charts/`. To add a question about the log: a method of `data.Log` and
its name in `plugin.py`. To rebuild `static/echarts.js`, after another version
or another part of ECharts was chosen in `bundle/`:

    cd keras_actpen_tensorboard/bundle && npm ci && npm run build
"""
