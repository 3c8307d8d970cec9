"""The packages of a locked environment as a CycloneDX list, which vulnerability and licence scanners read."""

import hashlib
from datetime import datetime
from pathlib import PurePath
from uuid import NAMESPACE_URL, uuid5

from distill.publish.libraries import audit_library

FORMAT, MEDIA_TYPE = "https://cyclonedx.org/docs/1.6/json/", "application/vnd.cyclonedx+json"


def list_materials(lock: str, content: bytes, made: str) -> str:
    """Returns the CycloneDX 1.6 list of a lock's packages as JSON; equal locks give equal texts.

    Args:
        lock: path of the lock, relative to the repository.
        content: what it holds: a line `package==version` each, and the digests of its files behind it.
        made: the time that the list bears, ISO 8601.
    """
    bom, component, output = (audit_library(f"cyclonedx.{name}") for name in ("model.bom", "model.component", "output"))
    schema, package_url = audit_library("cyclonedx.schema"), audit_library("packageurl").PackageURL
    name, digest = PurePath(lock).stem, hashlib.sha256(content).hexdigest()
    environment = component.Component(
        name=name,
        type=component.ComponentType.APPLICATION,
        version=digest[:16],
        bom_ref=f"environment:{name}",
        description=f"The environment of {lock}, sha256:{digest}",
    )
    metadata = bom.BomMetaData(component=environment, timestamp=datetime.fromisoformat(made))
    listed = bom.Bom(metadata=metadata, serial_number=uuid5(NAMESPACE_URL, f"sha256:{digest}"))
    for line in content.decode().splitlines():
        package, pinned, version = line.partition(" ")[0].partition("==")
        if pinned and not line.startswith("#"):
            url = package_url("pypi", name=package, version=version)
            library = component.ComponentType.LIBRARY
            listed.components.add(
                component.Component(name=package, type=library, version=version, purl=url, bom_ref=str(url))
            )
    listed.register_dependency(environment, listed.components)
    writer = output.make_outputter(listed, schema.OutputFormat.JSON, schema.SchemaVersion.V1_6)
    return writer.output_as_string(indent=1) + "\n"
