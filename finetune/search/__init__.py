"""Which settings of a task are the best: several trainings, chosen by the validation figure, each an ordinary run."""
