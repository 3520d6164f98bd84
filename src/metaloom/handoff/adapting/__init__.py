"""From folders of labelled examples to bundles: one task, a fleet, or a fleet in one bundle."""
