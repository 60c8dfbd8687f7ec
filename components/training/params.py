"""Section ``training`` of params.yaml: optimisation, regularisation, stopping."""

from typing import Literal, Self

from pydantic import Field, model_validator

from components.settings import Section


class TrainingSection(Section):
    """How the model is fitted."""

    seed: int = Field(ge=0, lt=2**63)
    """Seed of every draw: weights, batches, dropped modalities, hidden units."""
    threads: int = Field(ge=1, le=256)
    """CPU threads of each process; part of the result, since float sums depend on how work is cut."""
    processes: int = Field(ge=1, le=1024)
    """Processes on this machine that share every batch, one per GPU; above 1 they are started by torchrun's launcher."""
    restarts: int = Field(ge=0, le=1000)
    """Times that all processes are started again, from the last checkpoint, when one of them dies."""
    steps: int = Field(ge=1, le=10_000_000)
    """Most optimiser steps; the cosine schedule ends here."""
    warmup_steps: int = Field(ge=0)
    """Steps over which the learning rate rises linearly; below steps."""
    batch: int = Field(ge=2, le=1_000_000)
    """Clips per step over all processes; each is a negative of the others. A multiple of processes."""
    chunk: int | None = Field(ge=1)
    """Clips per forward pass of a process; a larger batch is cut and its gradient cached. null: never cut."""
    precision: Literal["auto", "float32", "bfloat16"]
    """Arithmetic of the towers while training; auto is bfloat16 where the GPU has it, else float32."""
    compile: bool | Literal["auto"]
    """Compile the model (torch.compile); auto does so on a GPU only, a CPU does not gain."""
    learning_rate: float = Field(gt=0, le=1)
    """Peak learning rate of AdamW."""
    weight_decay: float = Field(ge=0, le=10)
    """AdamW weight decay of the matrices; biases, norms and temperature have none."""
    gradient_clip: float = Field(gt=0)
    """Largest norm of the gradient over all weights."""
    text_dropout: float = Field(ge=0, le=1)
    """Probability that a sample's text is dropped whole, so that video is not ignored (ViML 3.2)."""
    video_dropout: float = Field(ge=0, le=1)
    """Probability that a sample's video is dropped whole, so that text-only queries are known."""
    segment_dropout: float = Field(ge=0, lt=1)
    """Probability that a segment of video or music is dropped; one always stays."""
    mixup: float = Field(ge=0, le=10)
    """Each clip is blended with another by a share from Beta(mixup, mixup), the larger part its own; 0 is off."""
    human_text: float = Field(ge=0, le=1)
    """Probability that an annotated train clip shows its annotation, not its caption; 0 is the paper's setting."""
    validate_every: int = Field(ge=1)
    """Steps between validations; each ends with a checkpoint."""
    patience: int = Field(ge=1)
    """Validations in a row without a better val R@10 (video+text; ties by MRR) before training stops."""
    least_train_clips: int = Field(ge=2)
    """Fewer train clips than this are refused."""
    least_val_clips: int = Field(ge=2)
    """Fewer val clips than this are refused."""

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} must be below steps {self.steps}")
        if self.batch % self.processes:
            raise ValueError(f"batch {self.batch} must be a multiple of processes {self.processes}")
        if self.text_dropout + self.video_dropout > 1:
            raise ValueError(
                f"text_dropout {self.text_dropout} + video_dropout {self.video_dropout} exceed 1; a sample keeps one of both"
            )
        return self
