"""A small Kubernetes client: config, credentials, REST, watches. No USB, no KubeVirt."""
