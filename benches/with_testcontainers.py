"""One Redis and the site by Testcontainers, COUNT times at once: prints the seconds until all of them answer.

    with_testcontainers.py COUNT SITE_IMAGE REDIS_IMAGE GIVEN_FOLDER PREFIX

What is imported is not counted. Ryuk, which would take them away when this process is killed, is one image and one
container more, and is left out.
"""

import os
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

os.environ["TESTCONTAINERS_RYUK_DISABLED"] = "true"

from testcontainers.core.container import DockerContainer  # noqa: E402
from testcontainers.core.network import Network  # noqa: E402

count, site_image, redis_image, given, prefix = int(sys.argv[1]), *sys.argv[2:6]


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def launch(number: int):
    network = Network()
    network.create()
    cache = (
        DockerContainer(redis_image)
        .with_name(f"{prefix}{number}-cache")
        .with_network(network)
        .with_network_aliases("cache")
        .with_command("redis-server /etc/redis/redis.conf")
        .with_volume_mapping(f"{given}/redis.conf", "/etc/redis/redis.conf", "ro")
    )
    site = (
        DockerContainer(site_image)
        .with_name(f"{prefix}{number}-web")
        .with_network(network)
        .with_network_aliases("web")
        .with_exposed_ports(8080)
        .with_volume_mapping(f"{given}/site.toml", "/etc/site/site.toml", "ro")
        .with_volume_mapping(f"{given}/cache_password", "/run/secrets/cache_password", "ro")
        .with_tmpfs_mount("/uploads", "rw,mode=1777")
    )
    for name, value in {
        "WORKERS": "1",
        "SITE_CONFIG": "/etc/site/site.toml",
        "CACHE_ADDR": "cache:6379",
        "CACHE_USER": "app",
        "CACHE_PASSWORD_FILE": "/run/secrets/cache_password",
        "UPLOAD_DIR": "/uploads",
    }.items():
        site = site.with_env(name, value)
    cache.start()
    site.start()
    url = f"http://{site.get_container_host_ip()}:{site.get_exposed_port(8080)}/healthz"
    patience = time.monotonic() + 60
    while not answers(url):
        if time.monotonic() > patience:
            raise TimeoutError(f"{url} does not answer")
        time.sleep(0.01)
    return network, cache, site


def remove(launched):
    network, cache, site = launched
    site.stop()
    cache.stop()
    network.remove()


with ThreadPoolExecutor(count) as pool:
    began = time.monotonic()
    launched = list(pool.map(launch, range(count)))
    print(time.monotonic() - began)
    list(pool.map(remove, launched))
