//! Which descriptors, variables and limits of the calling shell reach the programs that a start runs.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use crate::guest_services::GuestServices;
use crate::stand_ins::{STAYS, create, install, install_ssh};
use crate::support::{Running, Site, skip, wait_until, which};

/// Variables that a user's shell may have.
const SECRETS: [(&str, &str); 4] = [
    ("SECRET_TOKEN", "planted-1"),
    ("AWS_SECRET_ACCESS_KEY", "planted-2"),
    ("SSH_AUTH_SOCK", "/planted-3"),
    ("GITHUB_TOKEN", "planted-4"),
];

/// Makes every program on PATH first record its descriptors, variables and limits. The shell does this alone, because a
/// child process would be mistaken for the program.
fn watch(site: &Site) {
    fs::create_dir(site.path("real")).unwrap();
    fs::create_dir(site.path("has")).unwrap();
    for entry in fs::read_dir(site.path("bin")).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        let real = site.path("real").join(&name);
        fs::rename(entry.path(), &real).unwrap();
        let (planted, note) = (site.path("planted"), site.path("has").join(&name));
        let (planted, note, real) = (planted.display(), note.display(), real.display());
        let has = format!("export -p; ulimit -c; [ ! /proc/$$/fd/77 -ef '{planted}' ] || echo descriptor; echo all");
        site.stand_in(&name, &format!("{{ {has}; }} >>'{note}'\nexec '{real}' \"$@\""));
    }
}

/// A bubblewrap that makes no namespaces, but starts the forwarders as the real one does.
const FORWARDS: &str = r#"exec bash -c '
words=("$@") begin=() last=0
for index in "${!words[@]}"; do
    [ "${words[index]}" != -- ] || last=$index
done
for index in "${!words[@]}"; do
    [ "${words[index]}" = bash ] || continue
    # The words of bash and of the forwarder; the targets follow.
    own=$((5 + words[index + 4]))
    begin=("${words[@]:index:own}")
    index=$((index + own))
    while [ "${words[index]}" != -- ]; do begin+=("${words[index]}"); index=$((index + 1)); done
    begin+=(--)
    break
done
"${begin[@]}" "${words[@]:last + 1}" &
trap "kill $!" TERM
exec 3<&- 4<&-
wait $!
' bwrap "$@""#;

/// Returns the link targets of a process's descriptors.
fn descriptors(pid: u32) -> Vec<PathBuf> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    entries.filter_map(|entry| fs::read_link(entry.path()).ok()).collect()
}

/// Starts a machine from a shell with an open descriptor, variables and a limit of its own.
fn start(site: &Site) -> Running {
    install(site, STAYS);
    install_ssh(site);
    for package in ["package.json", "from-nix.json"] {
        site.write(package, site.read(package).replace("\"share\":\"9p\"", "\"share\":\"virtiofs\""));
    }
    let says_its_version = "[ \"$1\" != --version ] || { echo 'virtiofsd 1.13.0'; exit; }";
    site.stand_in("virtiofsd", &format!("{says_its_version}\n: >virtiofsd.sock\nexec sleep 1000"));
    site.stand_in("bwrap", FORWARDS);
    site.stand_in("mitmdump", "exec sleep 1000");
    create(site, "main");
    site.write("planted", "");
    watch(site);
    let start = "ulimit -S -c \"$(ulimit -H -c)\"; ulimit -c >limit; exec 77<planted; exec \"$0\" start app-main";
    let mut shell = site.command(which("bash").unwrap());
    shell.current_dir(site.root()).args(["-c", start, env!("CARGO_BIN_EXE_agent-vm")]).envs(SECRETS);
    shell.env("AGENT_VM_SOCKET_PROXYD", site.path("proxyd/systemd-socket-proxyd"));
    let said = fs::File::create(site.path("said")).unwrap();
    Running::new(shell.stdout(Stdio::null()).stderr(said).spawn().unwrap())
}

/// Returns what each program recorded when it started, by name.
fn had(site: &Site) -> BTreeMap<String, String> {
    let names = fs::read_dir(site.path("has")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.map(|name| (name.clone(), site.read(PathBuf::from("has").join(name)))).collect()
}

/// Checks that no process of the running machine has the shell's variables, descriptor or limit.
fn assert_nothing_inherited(site: &Site) {
    let planted = site.path("planted");
    for (pid, words) in site.processes() {
        let environment = fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
        assert!(SECRETS.iter().all(|(_, value)| !environment.contains(value)), "{words}: {environment}");
        assert!(!descriptors(pid).contains(&planted), "{words}");
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().filter(|word| *word == "0").count(), 2, "{words}: {core}");
    }
}

#[test]
fn programs_inherit_no_descriptor_variable_or_limit() {
    let site = Site::new();
    let start = start(&site);
    // Controls: the start itself has the descriptor, the variables and the limit.
    let is_ours = |pid| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.ends_with("agent-vm"));
    wait_until("the start", || is_ours(start.pid()));
    assert!(descriptors(start.pid()).contains(&site.path("planted")));
    let own = fs::read_to_string(format!("/proc/{}/environ", start.pid())).unwrap();
    assert!(SECRETS.iter().all(|(_, value)| own.contains(value)));
    if site.read("limit").trim() == "0" {
        skip("this host allows no core dumps, so the limit cannot be tested");
    }

    let _services = GuestServices::of(&site, "app-main");
    wait_until("the proxy", || site.read("has/mitmdump").ends_with("all\n"));
    let programs = had(&site);
    for (name, has) in &programs {
        assert!(!has.contains("descriptor\n"), "{name} has the descriptor:\n{has}");
        let limits: Vec<_> = has.lines().filter(|line| *line == "unlimited" || line.parse::<u64>().is_ok()).collect();
        assert!(!limits.is_empty() && limits.iter().all(|limit| *limit == "0"), "{name} may dump core:\n{has}");
    }
    let holds = |name: &str| {
        let has = programs.get(name).unwrap_or_else(|| panic!("{name} was not run: {:?}", programs.keys()));
        SECRETS.iter().filter(|(_, value)| has.contains(value)).count()
    };
    // The user configures Nix with variables. Control: nix has them.
    assert_eq!(holds("nix"), SECRETS.len());
    let others = ["bwrap", "mitmdump", "mke2fs", "qemu-img", "setsid", "ssh", "unshare", "virtiofsd"];
    for name in others {
        assert_eq!(holds(name), 0, "{name}:\n{}", programs[name]);
    }
    assert_nothing_inherited(&site);
}

#[test]
fn each_forwarder_has_its_own_socket_and_no_other_program_has_one() {
    let site = Site::new();
    // The confined forwarder sees only its own directory of the site.
    fs::create_dir(site.path("proxyd")).unwrap();
    site.script("proxyd/systemd-socket-proxyd", &format!("exec {} 1000", which("sleep").unwrap().display()));
    let _start = start(&site);
    wait_until("the runner", || site.path("record/runner.cwd").exists());
    let sockets = |pid| {
        let links = descriptors(pid).into_iter().map(|link| link.into_os_string().into_string().unwrap());
        links.filter(|link| link.starts_with("socket:")).collect::<Vec<_>>()
    };
    let forwarders = || {
        let is_one = |pid: &u32| {
            let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            comm == "sleep\n" && String::from_utf8_lossy(&environment).contains("LISTEN_FDS=1")
        };
        site.pids().into_iter().filter(is_one).collect::<Vec<_>>()
    };
    wait_until("both forwarders", || forwarders().len() == 2);
    let forwarders = forwarders();
    let held: Vec<_> = forwarders.iter().map(|pid| sockets(*pid)).collect();
    assert!(held.iter().all(|each| each.len() == 1) && held[0] != held[1], "{held:?}");
    for pid in &forwarders {
        let environment = fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
        assert!(environment.contains(&format!("LISTEN_PID={pid}\0")), "{environment}");
    }
    let others: Vec<_> = site.processes().into_iter().filter(|(pid, _)| !forwarders.contains(pid)).collect();
    assert!(!others.is_empty());
    for (pid, words) in others {
        // The stand-in for bubblewrap has to pass the sockets on first.
        wait_until(&words, || sockets(pid).is_empty());
    }
    assert_nothing_inherited(&site);
}
