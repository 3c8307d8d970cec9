"""Pure tensor losses: top-p candidate sets, Bellman Distill in its published and released forms, cross entropy."""
