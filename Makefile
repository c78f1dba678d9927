# What a fresh Debian machine with root, python3, git and make needs is installed by these targets themselves.
PYTHON ?= python3
VENV := .venv
# Debian 12's versions of what the program runs on; everything else is as new as in $(VENV).
OLDEST := .venv-oldest
# Its docker is for Debian 12's Python only.
OLDEST_PINS := click==8.1.3 pyroute2==0.7.2 prometheus-client==0.16.0 \
	$(foreach pin,docker==5.0.3 requests==2.28.1 urllib3==1.26.12,'$(pin); python_version < "3.12"')

# Nearly all tests wait for the kernel most of the time, so more of them run at once than there are processors.
# With more than three they disturb each other: patience runs out.
AT_ONCE := -n 3 --dist worksteal
# Without the tests that wait for minutes, three would leave the processors no rest.
TWO_AT_ONCE := -n 2 --dist worksteal

.PHONY: test lint demo deb bench clean tools deb-tools package-tools bench-tools

test: tools package-tools $(VENV)/ready $(OLDEST)/ready lint
	$(VENV)/bin/python -m pytest $(AT_ONCE) -m "not alone"
	$(VENV)/bin/python -m pytest -m "alone"
	$(OLDEST)/bin/python -m pytest $(TWO_AT_ONCE) -m "not alone and not minutes"
	$(OLDEST)/bin/python -m pytest -m "alone and not minutes"

lint: $(VENV)/ready
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

demo: tools $(VENV)/ready
	@$(VENV)/bin/python tests/demo.py

deb: deb-tools
	./packaging/build-deb dist

bench: bench-tools $(VENV)/ready
	PYTHONPATH=tests $(VENV)/bin/python tests/bench/bench.py $(BENCH)

clean:
	rm -rf $(VENV) $(OLDEST) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

tools:
	@./tests/install-tools ip:iproute2 ebtables-nft:iptables nft:nftables tcpdump:tcpdump ping:iputils-ping \
		ndisc6:ndisc6 ndppd:ndppd atk6-fuzz_ip6:thc-ipv6 sysctl:procps curl:curl \
		dockerd:docker.io busybox:busybox-static mmdebstrap:mmdebstrap

DIST_PACKAGES := /usr/lib/python3/dist-packages
deb-tools:
	@./tests/install-tools git:git dpkg-buildpackage:dpkg-dev dh:debhelper dh_python3:dh-python \
		$(DIST_PACKAGES)/installer:pybuild-plugin-pyproject $(DIST_PACKAGES)/hatchling:python3-hatchling \
		$(DIST_PACKAGES)/click:python3-click

# The package is installed on a machine that is made by mmdebstrap and booted by systemd-nspawn.
package-tools: deb-tools
	@./tests/install-tools lintian:lintian groff:groff-base mmdebstrap:mmdebstrap systemd-nspawn:systemd-container

bench-tools: tools
	@./tests/install-tools gcc:gcc gcc:libc6-dev

$(VENV)/ready: pyproject.toml
	@./tests/install-tools venv:python3-venv
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --upgrade --editable .[dev]
	@touch $@

$(OLDEST)/ready: pyproject.toml
	@./tests/install-tools venv:python3-venv
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/pip install --quiet --upgrade --editable .[dev] $(OLDEST_PINS)
	@touch $@
