"""What a model learned: interpretation, report, model card."""
