"""`python -m benchmarks.child MODULE FUNCTION ARGUMENTS RESULT`: one measurement in a process of its own."""

from __future__ import annotations

import importlib
import json
import sys


def main() -> None:
    module, function, arguments, result = sys.argv[1:]
    value = getattr(importlib.import_module(module), function)(**json.loads(arguments))
    with open(result, "w", encoding="utf-8") as file:
        json.dump(value, file)


if __name__ == "__main__":
    main()
