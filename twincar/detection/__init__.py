"""Where the cars are in a photo; torch-free."""

from twincar.detection.cars import Car, cut_box, main_car
from twincar.detection.detector import Detector, load_detector

__all__ = ["Car", "Detector", "cut_box", "load_detector", "main_car"]
