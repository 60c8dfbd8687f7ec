"""Section ``indexing`` of params.yaml: how the catalogue is searched."""

from pydantic import Field

from components.settings import Section


class IndexingSection(Section):
    """What the index is made of."""

    seed: int = Field(ge=0, lt=2**31)
    """Seed of the clustering of an approximate index."""
    threads: int = Field(ge=1, le=256)
    """CPU threads for embeddings; part of the result, since float sums depend on how work is cut."""
    exact_below: int = Field(ge=1)
    """Catalogues with fewer clips are searched exactly; larger ones by inverted lists (IVF-SQ8)."""
    clips_per_list: int = Field(ge=8)
    """Mean clips in an inverted list; about the square root of the catalogue's size is usual."""
    probes: int = Field(ge=1)
    """Inverted lists looked into per query; more is slower and misses less."""
    rerank: int = Field(ge=1, le=1000)
    """Candidates per wanted result that an approximate search scores again in float32."""
    tag_threshold: float = Field(ge=0, le=1)
    """Tags of at least this probability are listed in the catalogue; 0.30 in the paper."""
