"""What to look for: ontologies, where they come from and how they are kept."""

from ontologies.ontology import DISTRACTOR, ClassSpec, Ontology, OntologyError, OntologyWarning
from ontologies.sources import from_caption_ontology, read_ontology, write_ontology

__all__ = [
    "DISTRACTOR",
    "ClassSpec",
    "Ontology",
    "OntologyError",
    "OntologyWarning",
    "from_caption_ontology",
    "read_ontology",
    "write_ontology",
]
