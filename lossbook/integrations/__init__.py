"""Lossbook inside training frameworks: one thin file a framework, over one `Run`.

    from lossbook.integrations.transformers import LossbookCallback
    from lossbook.integrations.accelerate import LossbookTracker
    from lossbook.integrations.lightning import LossbookLogger
    from lossbook.integrations.torch import watch

A framework is imported by its own file alone. None of them raises into training.
"""
