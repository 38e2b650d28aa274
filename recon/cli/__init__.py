"""The commands of `recon`, one module each, imported only when called."""
