"""What the trainers share: text and tokenizers, checkpoints. They use Lossbook's public API alone."""
