"""KubeVirt behind the ports of the service: VMIs, migrations, routes to QEMU."""
