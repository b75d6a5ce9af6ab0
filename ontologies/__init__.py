"""Ontologies: the classes to label, with the prompts that find them; and taggers that propose classes."""

from ontologies.ontology import DISTRACTOR, ClassSpec, Ontology, OntologyError, OntologyWarning
from ontologies.proposals import Proposal, TagCounts, propose, write_proposal
from ontologies.sources import from_caption_ontology, read_ontology, write_ontology
from ontologies.synonyms import read_synonyms
from ontologies.vocabularies import VOCABULARIES, read_vocabulary

DISTRIBUTION = "autodistill-labeler"  # tells this package from other projects' of the same name

__all__ = [
    "DISTRACTOR",
    "VOCABULARIES",
    "ClassSpec",
    "Ontology",
    "OntologyError",
    "OntologyWarning",
    "Proposal",
    "TagCounts",
    "from_caption_ontology",
    "propose",
    "read_ontology",
    "read_synonyms",
    "read_vocabulary",
    "write_ontology",
    "write_proposal",
]
