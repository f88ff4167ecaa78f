"""Generative data augmentation for medical image classification: five papers on one bench."""
