//! A domain of libvirt: QEMU with the arguments of the machine's own runner, and no egress.
//!
//! libvirt starts QEMU itself. It describes memory, processors, kernel, workspace and console in its own terms; every other
//! argument is passed to QEMU as the runner has it, above all the network, which reaches nothing but two ports of the guest.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::Exported;
use crate::confine;
use crate::guest::Guest;
use crate::guest::manifest::{Share, User};
use crate::host::files::{has_file, quoted, write_file};
use crate::host::process::Invocation;
use crate::host::time_zone;
use crate::machine::Machine;
use crate::machine::number::Number;
use crate::machine::paths::MachinePath;
use crate::mcp::endpoint;
use crate::term::error::Failure;
use crate::term::progress::note;
use crate::vm::accel::{self, Choice};
use crate::vm::{credentials, throttle, virtiofsd};

/// Prints its arguments, each with a NUL after it.
const RECORDER: &str = "#!/bin/sh\nprintf '%s\\0' \"$@\"\n";
/// Arguments that libvirt has an own way for, or that are about a terminal: with a value, and without one.
const LIBVIRTS: [&str; 5] = ["-display", "-machine", "-sandbox", "-serial", "-rtc"];
const LIBVIRTS_FLAGS: [&str; 3] = ["-nodefaults", "-no-user-config", "-no-reboot"];
/// Program that serves the workspace, in the directory of the credentials.
const SHARE: &str = "virtiofsd";

/// QEMU's arguments, sorted by who says them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Arguments {
    kernel: String,
    initrd: Option<String>,
    parameters: String,
    passed: Vec<String>,
}

/// Writes credentials into a new directory, and returns the domain.
///
/// # Errors
/// The machine runs or was never built, or the directory exists.
pub fn domain(machine: &Machine, exported: &Exported, dir: &Path, cache: &Path) -> Result<String> {
    let name = &machine.name;
    if machine.run().qemu().is_some() {
        return Err(Failure::new(format!("{name} is running, and would use its disk twice"))
            .with_hint(format!("agent-vm stop {name}"))
            .into());
    }
    let guest = Guest::of(machine)?;
    if !has_file(&MachinePath::Disk.of(&machine.dir))? {
        return Err(Failure::new(format!("{name} has no disk yet: its first start makes it"))
            .with_hint(format!("agent-vm start {name}\nthen: agent-vm stop {name}"))
            .into());
    }
    let dir = std::path::absolute(dir).with_context(|| format!("failed to find {}", dir.display()))?;
    let mut arguments = Arguments::of(&recorded(&guest, machine, exported)?);
    arguments.passed.extend(throttle::options(&exported.settings.limits));
    // Whether KVM opens proves nothing: the machine's own starts know whether a kernel runs with it.
    let (confinement, _) = confine::choose(&machine.dir)?;
    let choice = accel::choose(&guest, &confinement, cache)?;
    if let Choice::NoKvm(why) | Choice::Unknown(why) = &choice {
        note(&format!("warning: no KVM ({why}): the domain emulates the processor, which is slower"));
    }
    make(&dir)?;
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))
        .with_context(|| format!("failed to set the mode of {}", dir.display()))?;
    let run = credentials::Run {
        hostname: &name.hostname(),
        time_zone: time_zone::name(),
        log_level: "info",
        endpoint: endpoint::hand_over(machine, &exported.settings, std::net::Ipv4Addr::LOCALHOST)?,
    };
    let names = credentials::write(&dir, &machine.dir, run, &guest.manifest)?;
    let prefix = guest.manifest.qemu.start()?.credential_prefix.clone();
    let workspace = &guest.manifest.workspace;
    let share = match workspace.share {
        Share::Virtiofs => {
            let wrapper = wrapper(&virtiofsd::find()?.program, exported, &guest.manifest.user);
            write_file(&dir.join(SHARE), wrapper, 0o700)?;
            let binary = escaped(&dir.join(SHARE).to_string_lossy());
            format!("<driver type='virtiofs'/>\n      <binary path='{binary}'/>")
        }
        Share::NineP => String::new(),
    };
    let mode = if workspace.share == Share::NineP { "mapped" } else { "passthrough" };
    let entries = names.iter().map(|name| {
        let file = escaped(&dir.join(name).to_string_lossy());
        format!("    <entry name='{}' file='{file}'/>\n", escaped(&format!("{prefix}{name}")))
    });
    let parts = Parts {
        entries: entries.collect(),
        filesystem: format!(
            "<filesystem type='mount' accessmode='{mode}'>\n      {share}\n      <source dir='{}'/>\n      <target dir='{}'/>\n    </filesystem>",
            escaped(&machine.workspace().to_string_lossy()),
            escaped(&workspace.tag)
        ),
        emulator: guest.manifest.qemu.program()?.display().to_string(),
        has_kvm: choice == Choice::Kvm,
    };
    Ok(text(exported, &arguments, &parts))
}

/// Makes the directory of the credentials.
fn make(dir: &Path) -> Result<()> {
    fs::create_dir(dir).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => {
            Failure::new(format!("the directory of the credentials {} exists already", dir.display()))
                .with_hint(format!(
                    "if it is of an earlier export, remove it and export again: rm -r -- {}",
                    quoted(dir)
                ))
                .into()
        }
        _ => anyhow::Error::from(error).context(format!("failed to create the directory {}", dir.display())),
    })
}

/// What the text has besides QEMU's arguments.
struct Parts {
    entries: String,
    filesystem: String,
    emulator: String,
    has_kvm: bool,
}

/// Returns the arguments with which the machine's runner would start QEMU.
fn recorded(guest: &Guest, machine: &Machine, exported: &Exported) -> Result<Vec<String>> {
    let dir = tempfile::tempdir().context("failed to make a temporary directory")?;
    let recorder = dir.path().join("recorder");
    write_file(&recorder, RECORDER, 0o700)?;
    let (settings, ports) = (&exported.settings, &guest.manifest.ports);
    let forwards = format!(
        "hostfwd=tcp:127.0.0.1:{}-:{},hostfwd=tcp:127.0.0.1:{}-:{}",
        settings.ssh_port, ports.ssh, settings.port, ports.mcp
    );
    let runner = Invocation::new(guest.package.join(&guest.manifest.runner))
        .env("NIX_DISK_IMAGE", MachinePath::Disk.of(&machine.dir))
        .env("AGENT_VM_QEMU", &recorder)
        .env("QEMU_NET_OPTS", forwards)
        .cwd(dir.path());
    let printed = runner.checked().context("failed to ask the machine's runner for its arguments")?.stdout;
    let mut words: Vec<_> =
        printed.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    words.pop();
    Ok(words)
}

impl Arguments {
    fn of(words: &[String]) -> Self {
        let mut found = Self::default();
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            if LIBVIRTS_FLAGS.contains(&word.as_str()) {
                continue;
            }
            let value = rest.next().cloned().unwrap_or_default();
            match word.as_str() {
                "-kernel" => found.kernel = value,
                "-initrd" => found.initrd = Some(value),
                "-append" => found.parameters = value,
                word if LIBVIRTS.contains(&word) => {}
                // The console is a file descriptor of the runner, and the guest agent's socket is in its directory.
                "-chardev" if value.starts_with("stdio,") || value.contains("id=guest-agent") => {}
                "-device" if value == "virtio-serial-pci" || value.contains("chardev=guest-agent") => {}
                _ => found.passed.extend([word.clone(), value]),
            }
        }
        found
    }
}

/// Returns a program that adds the mapping of users: the guest's agent owns what this user owns.
fn wrapper(program: &Path, exported: &Exported, guest: &User) -> String {
    let all = u32::MAX;
    let map = |kind: &str, host: u32, guest: u32| {
        format!("--translate-{kind}=squash-guest:0:{host}:{all} --translate-{kind}=host:{host}:{guest}:1")
    };
    format!(
        "#!/bin/sh\n# libvirt starts this as root, or as the user of the session.\nexec {} \"$@\" {} {}\n",
        quoted(program),
        map("uid", exported.user, guest.uid),
        map("gid", exported.group, guest.gid)
    )
}

/// Returns the limit of the processor time of the whole domain; empty if none was set.
fn quota(exported: &Exported) -> String {
    const PERIOD: u32 = 100_000;
    exported.settings.limits.of(Number::CpuQuota).map_or_else(String::new, |percent| {
        let quota = u64::from(percent) * u64::from(PERIOD) / 100;
        format!(
            "  <cputune>\n    <global_period>{PERIOD}</global_period>\n    <global_quota>{quota}</global_quota>\n  </cputune>\n"
        )
    })
}

/// Returns text for XML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\'', "&apos;").replace('"', "&quot;")
}

fn text(exported: &Exported, arguments: &Arguments, parts: &Parts) -> String {
    let Exported { name, settings, user, group, .. } = exported;
    let (kind, cpu) = if parts.has_kvm { ("kvm", "host-passthrough") } else { ("qemu", "maximum") };
    let initrd =
        arguments.initrd.as_ref().map_or_else(String::new, |file| format!("    <initrd>{}</initrd>\n", escaped(file)));
    let passed = arguments.passed.iter().map(|word| format!("    <qemu:arg value='{}'/>\n", escaped(word)));
    let passed: String = passed.collect();
    format!(
        "<domain type='{kind}' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>agent-vm-{name}</name>
  <memory unit='MiB'>{memory}</memory>
  <memoryBacking>
    <source type='memfd'/>
    <access mode='shared'/>
  </memoryBacking>
  <vcpu>{cores}</vcpu>
{quota}  <sysinfo type='fwcfg'>
{entries}  </sysinfo>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>{kernel}</kernel>
{initrd}    <cmdline>{parameters}</cmdline>
  </os>
  <features>
    <acpi/>
  </features>
  <cpu mode='{cpu}'/>
  <clock offset='utc'/>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>destroy</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <emulator>{emulator}</emulator>
    {filesystem}
    <serial type='pty'/>
    <console type='pty'/>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
  </devices>
  <seclabel type='static' model='dac' relabel='no'>
    <label>+{user}:+{group}</label>
  </seclabel>
  <qemu:commandline>
{passed}  </qemu:commandline>
</domain>
",
        name = escaped(name),
        memory = settings.memory,
        cores = settings.cores,
        quota = quota(exported),
        entries = parts.entries,
        kernel = escaped(&arguments.kernel),
        parameters = escaped(&arguments.parameters),
        emulator = escaped(&parts.emulator),
        filesystem = parts.filesystem,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::commands::export::sample;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn each_argument_is_libvirts_or_is_passed() {
        let line = "-nodefaults -no-user-config -display none -no-reboot -machine q35 -sandbox on -chardev stdio,id=console \
                    -serial chardev:console -rtc base=utc -object rng-random,id=random -device virtio-rng-pci,rng=random \
                    -netdev user,id=net0,restrict=on -device virtio-net-pci,netdev=net0 -kernel /k -initrd /i -append quiet";
        let arguments = Arguments::of(&words(line));
        assert_eq!(
            (arguments.kernel.as_str(), arguments.initrd.as_deref(), arguments.parameters.as_str()),
            ("/k", Some("/i"), "quiet")
        );
        let passed = words(
            "-object rng-random,id=random -device virtio-rng-pci,rng=random -netdev user,id=net0,restrict=on -device virtio-net-pci,netdev=net0",
        );
        assert_eq!(arguments.passed, passed);
        let agent = "-device virtio-serial-pci -chardev socket,id=guest-agent,path=qga.sock -device virtserialport,chardev=guest-agent";
        assert!(Arguments::of(&words(agent)).passed.is_empty());
    }

    #[test]
    fn text_is_escaped() {
        let mut exported = sample();
        exported.name = "a<b".to_owned();
        let arguments = Arguments {
            kernel: "/k'&".to_owned(),
            passed: vec!["-x".to_owned(), "a\"b".to_owned()],
            ..Arguments::default()
        };
        let parts =
            Parts { entries: String::new(), filesystem: String::new(), emulator: "/q".to_owned(), has_kvm: false };
        let text = text(&exported, &arguments, &parts);
        assert!(
            text.contains("agent-vm-a&lt;b")
                && text.contains("/k&apos;&amp;")
                && text.contains("a&quot;b")
                && !text.contains("<initrd>")
                && !text.contains("<cputune>")
        );
        exported.settings.limits.cpu_quota = Some(150);
        assert!(super::text(&exported, &arguments, &parts).contains("<global_quota>150000</global_quota>"));
    }
}
