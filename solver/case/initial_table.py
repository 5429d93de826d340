"""``[initial]`` of a case: where a flow starts."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from solver.case.table import Table

READS = {  # keys of [initial] that a kind reads, besides the seed
    "rest": (),
    "taylor_green": ("amplitude",),
    "wall_turbulence": ("amplitude",),
    "isotropic": ("amplitude", "peak_wavenumber", "spectrum"),
    "shear_layers": ("thickness", "amplitude"),
    "stream": ("amplitude",),
    "run": ("run",),
}


class InitialTable(Table):
    """``[initial]``: the flow at the beginning; a kind reads the keys that say so."""

    kind: Literal["rest", "taylor_green", "wall_turbulence", "isotropic", "shear_layers", "stream", "run"] = Field(
        description="rest; the Taylor-Green vortex; mean profile, streaks and noise that become turbulent between "
        "walls; random noise of a given spectrum; two layers of opposite shear; a stream around solids; another run"
    )
    seed: int = Field(default=20261, ge=0, description="of all that is random; it is drawn over the whole grid")
    amplitude: float = Field(default=1.0, ge=0, description="multiplies the vortex, or the disturbances; not for `run`")
    peak_wavenumber: float = Field(default=4.0, gt=0, description="of ``isotropic``: where the spectrum peaks")
    spectrum: str | None = Field(default=None, description="of ``isotropic``: file beside the case with a spectrum")
    thickness: float = Field(default=1.0, gt=0, description="of ``shear_layers``: momentum thickness")
    run: str | None = Field(
        default=None, description="run folder or checkpoint, beside the case or relative to the working directory"
    )

    @model_validator(mode="after")
    def _knows_where_to_start(self) -> InitialTable:
        if (self.kind == "run") != (self.run is not None):
            raise ValueError("kind = 'run' and the key 'run' (a run folder or checkpoint) belong together")
        if self.spectrum is not None and ".." in Path(self.spectrum).parts:
            raise ValueError(f"'spectrum' = '{self.spectrum}' should lie beside the case: copy it there")
        return self

    @model_validator(mode="after")
    def _reads_what_is_given(self) -> InitialTable:
        tabled = self.kind == "isotropic" and self.spectrum is not None
        what = f"kind = '{self.kind}'" + (" with a 'spectrum'" if tabled else "")
        read = ("spectrum",) if tabled else READS[self.kind]
        for key in sorted(self.model_fields_set - {"kind", "seed", *read}):
            if getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{what} does not read '{key}': remove it")
        return self
