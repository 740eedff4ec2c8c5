"""Lossbook inside training frameworks: one thin file a framework, over one `Run`.

    from lossbook.integrations.transformers import LossbookCallback
    from lossbook.integrations.accelerate import LossbookTracker
    from lossbook.integrations.lightning import LossbookLogger
    from lossbook.integrations.torch import watch

A framework is imported by its own file alone. None of them raises into training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossbook.lazy import lazy_exports

if TYPE_CHECKING:
    from lossbook.integrations.guard import harmless as harmless
    from lossbook.integrations.lightning import LossbookLogger as LossbookLogger
    from lossbook.integrations.torch import Watched as Watched, watch as watch
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "guard": "harmless",
            "lightning": "LossbookLogger",
            "torch": "Watched watch",
        },
    )
