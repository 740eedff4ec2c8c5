"""The terminal page: `lossbook watch`.

`drawing` draws curves with characters and `styled_text` is what they are made of; `lossbook show` prints the same.
`reader` looks at the store in a thread, `state` and `model` hold what the user chose, and the views turn both into
lines. `app` alone knows Textual: it hands keys in and lines out, and sends what changed of them.
"""
