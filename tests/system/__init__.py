"""Whole trainings and deliverers in processes of their own, with faults and kills."""
