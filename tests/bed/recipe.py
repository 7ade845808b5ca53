"""What a test guest is made of: kernel, accelerator, disks, domain XML."""

import fcntl
import os
import subprocess
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

COMMAND_PORT = "org.virtsnapd.test.command"
PULSE_PORT = "org.virtsnapd.test.pulse"
AGENT_PORT = "org.qemu.guest_agent.0"

# no_timer_check: an emulated CPU that has to wait for the host's loses interrupts, and the kernel's
# look at its timer then ends in a panic.
_KERNEL_OPTIONS = "console=ttyS0 quiet panic=-1 nokaslr edd=off no_timer_check"
_PROBE_SECONDS = 6  # a guest that takes longer to boot is better off without KVM


@dataclass(frozen=True)
class Disk:
    path: Path
    format: str = "qcow2"


@dataclass(frozen=True)
class Hardware:
    """A guest's machine; memory in MiB, machine pc or q35."""

    memory: int = 160  # Debian 13's kernel leaves too little of 128
    vcpus: int = 1
    machine: str = "pc"
    agent: bool = True


def cache_folder() -> Path:
    """Where what takes long to make is kept between runs ($VIRTSNAPD_TEST_CACHE)."""
    return Path(os.environ.get("VIRTSNAPD_TEST_CACHE", "/var/cache/virtsnapd-test"))


def build() -> Path:
    """Make the guest's vmlinuz and initrd unless they are there; return their folder."""
    folder = cache_folder() / "guest"
    subprocess.run([Path(__file__).with_name("build-guest"), folder], check=True, timeout=300)
    return folder


def accelerator() -> str:
    """Return 'kvm' if KVM boots the guest here, else 'qemu' (TCG); known until the next boot.

    That /dev/kvm can be opened says little: a KVM inside a virtual machine may be slower than
    QEMU's own emulation, or fail.
    """
    folder = build()
    known = folder / "accelerator"
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    with (folder / ".lock").open() as lock:  # build-guest's; two probes would slow each other down
        fcntl.flock(lock, fcntl.LOCK_EX)
        if known.exists():
            of_boot, _, kind = known.read_text().strip().partition(" ")
            if of_boot == boot_id and kind:
                return kind
        usable = os.access("/dev/kvm", os.R_OK | os.W_OK) and _boots_under_kvm(folder)
        kind = "kvm" if usable else "qemu"
        known.write_text(f"{boot_id} {kind}\n")
        return kind


def _boots_under_kvm(folder: Path) -> bool:
    command = ["qemu-system-x86_64", "-accel", "kvm", "-m", "128", "-display", "none"]
    command += ["-no-user-config", "-nodefaults", "-no-reboot", "-serial", "stdio"]
    command += ["-kernel", str(folder / "vmlinuz"), "-initrd", str(folder / "initrd")]
    command += ["-append", f"{_KERNEL_OPTIONS} probe"]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PROBE_SECONDS
        )
    except subprocess.TimeoutExpired:
        return False
    return b"guest: ready" in done.stdout


def make_disk(path: Path, mib: int = 64, image_format: str = "qcow2") -> Disk:
    """Make a qcow2 or raw image of `mib` MiB with an empty ext4 on it."""
    raw = path if image_format == "raw" else path.with_suffix(".tmp")
    with raw.open("xb") as file:
        file.truncate(mib * 1024 * 1024)
    mkfs = ["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0", str(raw)]
    path_with_sbin = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    subprocess.run(mkfs, check=True, timeout=60, env={**os.environ, "PATH": path_with_sbin})
    if image_format != "raw":
        convert = ["qemu-img", "convert", "-f", "raw", "-O", image_format, str(raw), str(path)]
        subprocess.run(convert, check=True, timeout=60)
        raw.unlink()
    return Disk(path, image_format)


def domain_uuid(name: str) -> str:
    """The UUID of the guest of that name: always the same, so it can be defined anew."""
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{name}.guest.virtsnapd.test"))


def domain_xml(name: str, disks: Sequence[Disk], hardware: Hardware = Hardware()) -> str:
    """Return the XML of a domain that boots the guest's kernel; disk i is vda, vdb, ..."""
    folder = build()
    ports = [COMMAND_PORT, PULSE_PORT, *([AGENT_PORT] if hardware.agent else [])]
    return f"""<domain type='{accelerator()}'>
  <name>{escape(name)}</name>
  <uuid>{domain_uuid(name)}</uuid>
  <memory unit='MiB'>{hardware.memory}</memory>
  <vcpu>{hardware.vcpus}</vcpu>
  <os>
    <type arch='x86_64' machine='{hardware.machine}'>hvm</type>
    <kernel>{escape(str(folder / "vmlinuz"))}</kernel>
    <initrd>{escape(str(folder / "initrd"))}</initrd>
    <cmdline>{_KERNEL_OPTIONS}</cmdline>
  </os>
  <features><acpi/></features>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
{"".join(_disk_xml(index, disk) for index, disk in enumerate(disks))}\
    <serial type='pty'>
      <log file={quoteattr(f"/var/log/libvirt/qemu/{name}-console.log")} append='on'/>
    </serial>
{"".join(_port_xml(port) for port in ports)}\
    <memballoon model='none'/>
  </devices>
</domain>
"""


def _disk_xml(index: int, disk: Disk) -> str:
    return f"""\
    <disk type='file' device='disk'>
      <driver name='qemu' type='{disk.format}'/>
      <source file={quoteattr(str(disk.path))}/>
      <target dev='vd{chr(ord("a") + index)}' bus='virtio'/>
    </disk>
"""


def _port_xml(name: str) -> str:
    return f"""\
    <channel type='unix'>
      <target type='virtio' name='{name}'/>
    </channel>
"""
