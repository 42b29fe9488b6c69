"""Models whose construction is what a written source must get right, in ordinary PyTorch style."""

from source_models.construction import MODELS as CONSTRUCTED
from source_models.counted import MODELS as COUNTED
from source_models.followed import MODELS as FOLLOWED
from source_models.habits import MODELS as HABITS
from source_models.typed import MODELS as TYPED

MODELS = [*CONSTRUCTED, *COUNTED, *FOLLOWED, *HABITS, *TYPED]
