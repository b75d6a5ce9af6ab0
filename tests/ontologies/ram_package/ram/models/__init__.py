from .ram import ram
from .ram_plus import ram_plus
from .tag2text import tag2text

__all__ = ["ram", "ram_plus", "tag2text"]
