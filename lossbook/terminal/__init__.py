"""The terminal page: `lossbook watch`.

`drawing` draws curves with characters and `pieces` is the text that it is made of; `lossbook show` prints the same.
`reading` looks at the store in a thread, `model` holds what the user chose, the views turn both into lines, and `app`
alone knows Textual: it hands keys in and lines out, and sends what changed of them.
"""
