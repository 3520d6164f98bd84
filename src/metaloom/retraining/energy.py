"""What a retraining takes of energy, as codecarbon estimates it for this machine, without asking anybody outside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from metaloom.errors import MetaloomError
from metaloom.retraining.nights import Night


@contextmanager
def counted(night: Night, country: str | None) -> Iterator[None]:
    """Add to the night's energy and emissions what the machine takes meanwhile.

    Args:
        night: gets them.
        country: its ISO code of three letters, whose mix of electricity says the emissions; None: nothing is counted.

    Raises:
        MetaloomError: codecarbon knows no such country.
    """
    if not country:
        yield
        return
    from codecarbon import OfflineEmissionsTracker  # pyright: ignore[reportMissingImports] (an extra)
    from codecarbon.input import DataSource  # pyright: ignore[reportMissingImports] (an extra)

    if country not in DataSource().get_global_energy_mix_data():
        raise MetaloomError(f"retrain.energy is {country}, and codecarbon knows no such country: write one such as FRA")
    tracker = OfflineEmissionsTracker(country_iso_code=country, save_to_file=False, log_level="critical")
    tracker.start()
    try:
        yield
    finally:
        tracker.stop()
        found = tracker.final_emissions_data
        night.kwh, night.co2 = night.kwh + found.energy_consumed, night.co2 + found.emissions
