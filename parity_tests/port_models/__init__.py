"""Models in ordinary PyTorch style, as research code is written: what a port must take without a change by hand."""

from port_models import caching as caching
from port_models import generative as generative
from port_models import odd as odd
from port_models import sequence as sequence
from port_models import structured as structured
from port_models import vision as vision

MODELS = [*vision.MODELS, *sequence.MODELS, *generative.MODELS, *structured.MODELS, *odd.MODELS, *caching.MODELS]
