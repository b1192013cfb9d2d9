"""How far it goes: many photos, many classes, many machines."""
