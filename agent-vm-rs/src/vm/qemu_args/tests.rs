use super::*;
use crate::guest::manifest::tests::SAMPLE;
use crate::machine::settings::tests::sample;

/// What the inputs of a test refer to.
struct Given {
    manifest: Manifest,
    settings: Settings,
    daemon: Virtiofsd,
    confinement: Confinement,
}

impl Given {
    fn new(manifest: &str) -> Self {
        let daemon = Virtiofsd { program: "/opt/virtiofsd".into(), open_files: 1_000_000 };
        let manifest = Manifest::parse(manifest).unwrap();
        Self { manifest, settings: sample(), daemon, confinement: Confinement::default() }
    }

    fn inputs(&self) -> Inputs<'_> {
        Inputs {
            machine: Path::new("/state dir/app-main"),
            package: Path::new("/cache/guest"),
            manifest: &self.manifest,
            settings: &self.settings,
            program: Path::new("/usr/bin/qemu-system-x86_64"),
            qemu: &[],
            start: self.manifest.qemu.start().unwrap(),
            accel: Accel::Tcg,
            forwards: Forwards { address: Ipv4Addr::LOCALHOST, mcp: 8001, ssh: 2223 },
            virtiofsd: (self.manifest.workspace.share == Share::Virtiofs).then_some(&self.daemon),
            verbosity: Verbosity::Normal,
            confinement: &self.confinement,
            pids: None,
            rate: None,
            ports: &[],
        }
    }
}

fn planned(manifest: &str, accel: Accel) -> String {
    let given = Given::new(manifest);
    let inputs = Inputs { accel, ..given.inputs() };
    format!("{:#?}\n{:#?}", virtiofsd(&inputs), runner(&inputs))
}

#[test]
fn plans_match_the_snapshots() {
    insta::assert_snapshot!("tcg_virtiofs", planned(SAMPLE, Accel::Tcg));
    insta::assert_snapshot!("kvm_9p", planned(&SAMPLE.replace("\"virtiofs\"", "\"9p\""), Accel::Kvm));
}

/// When agent-vm runs as root, the daemon starts where its account can reach every file that it names.
#[test]
fn an_account_finds_the_daemon_and_what_becomes_it() {
    let ours = PathBuf::from("/opt/bin/agent-vm");
    let account = confine::Account { uid: 7, gid: 7, groups: Vec::new(), stage: Some(ours.clone()) };
    let sandbox = Some(confine::Sandbox { account: Some(account), proxyd: None });
    let given = Given {
        daemon: Virtiofsd { program: "/opt/libexec/virtiofsd".into(), open_files: 1_000_000 },
        confinement: Confinement { sandbox, landlock: Some(ours) },
        ..Given::new(SAMPLE)
    };
    let inputs = Inputs { machine: Path::new("/machines/app-main"), ..given.inputs() };
    let words = virtiofsd(&inputs).unwrap().args;
    let staged: Vec<_> = words.windows(2).filter(|pair| pair[0] == "--path").map(|pair| pair[1].clone()).collect();
    for word in words.iter().filter_map(|word| word.to_str()?.strip_prefix("/tmp/")) {
        let place = Path::new("/").join(word);
        assert!(staged.iter().any(|path| place.starts_with(path)), "{} is not on the stage", place.display());
    }
}

#[test]
fn options_contain_no_path_of_the_user() {
    for share in ["\"virtiofs\"", "\"9p\""] {
        let given = Given::new(&SAMPLE.replace("\"virtiofs\"", share));
        let inputs = Inputs { verbosity: Verbosity::Debug, ..given.inputs() };
        let options = qemu_options(&inputs);
        assert!(
            options.iter().all(|option| !option.contains("state dir") && !option.contains(char::is_whitespace)),
            "{options:?}"
        );
    }
}
