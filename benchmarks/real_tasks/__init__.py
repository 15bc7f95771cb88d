"""Real data of the package registries, made into the files that the tasks of `finetune` read, and measured on."""
