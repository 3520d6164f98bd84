"""Retraining that works beside the user's checkout: from a data version to a judged, committed and shared model."""
