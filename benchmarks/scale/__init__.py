"""Scale: many photos, many classes, many machines."""
