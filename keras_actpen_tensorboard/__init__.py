"""The Activations tab of TensorBoard.

TensorBoard loads the entry point `plugin:ActivationsLoader` wherever this
package is installed. Nothing here imports Keras, a backend or `keras_actpen`:
a server that shows logs made elsewhere has none of them. To add a page: a
module in `static/pages/`, its name in `static/app.js`. To add a route: a
method in `plugin.py`, what it reads in `data.py`.
"""
