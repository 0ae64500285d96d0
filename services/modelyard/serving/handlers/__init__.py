"""What serving does: endpoints, deployments, bringing memory in line with what is written down, and predictions."""
