"""First floor of recon: photos become 3D Gaussians."""
