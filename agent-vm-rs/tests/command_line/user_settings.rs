//! Settings of the user's own git that would break or change what agent-vm does with git.

use std::fs;

use crate::support::Site;

/// Groups of settings with values that users may have, or that do harm here.
const FAMILIES: &[(&str, &str)] = &[
    ("clone", "[clone]\n\trejectShallow = true\n\tdefaultRemoteName = github\n\tfilterSubmodules = true\n"),
    (
        "init",
        "[init]\n\tdefaultBranch = trunk\n\tdefaultRefFormat = reftable\n\tdefaultObjectFormat = sha256\n\ttemplateDir = {here}/template\n",
    ),
    ("protocol", "[protocol]\n\tallow = never\n\tversion = 0\n[protocol \"file\"]\n\tallow = never\n"),
    ("url", "[url \"ssh://host.invalid/\"]\n\tinsteadOf = file://\n\tpushInsteadOf = file://\n"),
    ("log", "[log]\n\tshowSignature = true\n\tdate = relative\n\tdecorate = full\n"),
    ("color", "[color]\n\tui = always\n\tstatus = always\n\tbranch = always\n\tdiff = always\n"),
    ("column", "[column]\n\tui = always\n\tstatus = always\n"),
    (
        "transfer",
        "[transfer]\n\tfsckObjects = true\n\thideRefs = refs\n\tunpackLimit = 1\n\tadvertiseObjectInfo = true\n",
    ),
    ("uploadpack", "[uploadpack]\n\thideRefs = refs/heads\n\tpackObjectsHook = {here}/marker\n\tallowFilter = true\n"),
    ("receive", "[receive]\n\tdenyCurrentBranch = refuse\n\thideRefs = refs\n"),
    (
        "fetch",
        "[fetch]\n\tprune = true\n\tpruneTags = true\n\tparallel = 8\n\twriteCommitGraph = true\n\tfsckObjects = true\n\tshowForcedUpdates = true\n\trecurseSubmodules = true\n",
    ),
    (
        "remote",
        "[remote]\n\tpushDefault = elsewhere\n[remote \"origin\"]\n\tfetch = +refs/tags/*:refs/tags/*\n\ttagOpt = --tags\n\tmirror = true\n\tuploadpack = {here}/marker\n",
    ),
    ("branch", "[branch]\n\tautoSetupMerge = simple\n\tautoSetupRebase = always\n\tsort = -committerdate\n"),
    ("checkout", "[checkout]\n\tdefaultRemote = elsewhere\n\tguess = false\n\tworkers = 8\n"),
    (
        "core text",
        "[core]\n\tautocrlf = true\n\teol = crlf\n\tsafecrlf = true\n\tquotePath = false\n\tattributesFile = {here}/attributes\n",
    ),
    ("core bare", "[core]\n\tbare = true\n"),
    ("core worktree", "[core]\n\tworktree = {here}\n"),
    (
        "core",
        "[core]\n\tlogAllRefUpdates = false\n\tcompression = 0\n\tabbrev = 4\n\tcommentChar = ;\n\tcreateObject = rename\n\twarnAmbiguousRefs = true\n",
    ),
    (
        "core index",
        "[core]\n\tuntrackedCache = true\n\tsplitIndex = true\n\tsparseCheckout = true\n\tpreloadIndex = true\n\tprecomposeUnicode = true\n\ttrustctime = false\n[index]\n\tversion = 4\n\tsparse = true\n[feature]\n\tmanyFiles = true\n\texperimental = true\n",
    ),
    (
        "core programs",
        "[core]\n\tfsmonitor = {here}/marker\n\thooksPath = {here}/template/hooks\n\tpager = {here}/marker\n\tsshCommand = {here}/marker\n\taskPass = {here}/marker\n\teditor = {here}/marker\n\talternateRefsCommand = {here}/marker\n\tgitProxy = {here}/marker\n[pager]\n\tstatus = true\n\tfor-each-ref = true\n\tconfig = true\n",
    ),
    (
        "filters",
        "[filter \"lfs\"]\n\tclean = {here}/marker\n\tsmudge = {here}/marker\n\tprocess = {here}/marker\n\trequired = true\n[diff]\n\texternal = {here}/marker\n",
    ),
    (
        "status",
        "[status]\n\tshort = true\n\tbranch = true\n\tshowStash = true\n\trelativePaths = true\n\tshowUntrackedFiles = no\n\tsubmoduleSummary = true\n\tbranch = true\n",
    ),
    (
        "diff",
        "[diff]\n\tnoprefix = true\n\trenames = copies\n\tignoreSubmodules = all\n\tsubmodule = log\n\torderFile = {here}/none\n",
    ),
    ("push", "[push]\n\tdefault = nothing\n\tgpgSign = true\n\tfollowTags = true\n\trecurseSubmodules = check\n"),
    (
        "commit",
        "[commit]\n\tgpgSign = true\n\ttemplate = {here}/none\n[tag]\n\tgpgSign = true\n\tsort = version:refname\n[gpg]\n\tprogram = {here}/marker\n\tformat = ssh\n",
    ),
    (
        "submodule",
        "[submodule]\n\trecurse = true\n\tactive = none\n\tfetchJobs = 8\n\talternateLocation = superproject\n\talternateErrorStrategy = die\n",
    ),
    (
        "gc",
        "[gc]\n\tauto = 1\n\tautoDetach = true\n[maintenance]\n\tauto = true\n\tstrategy = incremental\n[pack]\n\twriteReverseIndex = true\n\tpackSizeLimit = 1m\n\tthreads = 1\n[repack]\n\twriteBitmaps = true\n",
    ),
    (
        "advice",
        "[advice]\n\tdetachedHead = true\n\tstatusHints = true\n[alias]\n\tstatus = !false\n\tclone = !false\n\tconfig = !false\n",
    ),
    ("safe", "[safe]\n\tbareRepository = explicit\n\tdirectory = /nowhere\n"),
    ("trace", "[trace2]\n\teventTarget = 1\n\tnormalTarget = 1\n"),
    (
        "credential",
        "[credential]\n\thelper = {here}/marker\n\tinteractive = always\n[http]\n\tproxy = http://127.0.0.1:1\n[interactive]\n\tsingleKey = true\n",
    ),
    (
        "merge",
        "[merge]\n\tconflictStyle = zdiff3\n\tff = only\n[pull]\n\trebase = true\n[rebase]\n\tautoStash = true\n[rerere]\n\tenabled = true\n[bundle]\n\tversion = 3\n",
    ),
    (
        "extensions",
        "[extensions]\n\tobjectFormat = sha256\n\tpartialClone = origin\n\trefStorage = reftable\n\tworktreeConfig = true\n",
    ),
    (
        "i18n",
        "[i18n]\n\tcommitEncoding = latin1\n\tlogOutputEncoding = latin1\n[merge]\n\ttool = {here}/marker\n[mergetool \"x\"]\n\tcmd = {here}/marker\n",
    ),
    ("include", "[includeIf \"gitdir:/**\"]\n\tpath = {here}/included\n"),
];

/// Creates and destroys a machine; returns everything about it that must not depend on the user's settings.
fn outcome(site: &Site) -> Vec<String> {
    let made = site.run(&["create"]).ok();
    let workspace = site.machine("app-main").join("workspace");
    let git = |args: &[&str]| {
        // As the guest sees it, without the user's settings.
        let mut git = site.command(crate::support::which("git").unwrap());
        git.env("HOME", "/nowhere").env("XDG_CONFIG_HOME", "/nowhere").current_dir(&workspace).args(args);
        let output = git.output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let status = site.run(&["status", "--json"]).ok().json();
    // A slow host prints how long something took.
    let of_progress = |line: &str| line.starts_with("  ");
    let mut found = vec![
        made.stderr.lines().filter(|line| !of_progress(line) && !line.contains("your commits are signed")).collect(),
        git(&["for-each-ref", "--format=%(objectname) %(refname)"]),
        git(&["status", "--porcelain", "--ignored"]),
        git(&["config", "--local", "--list"]),
        git(&["cat-file", "--batch-all-objects", "--batch-check"]),
        fs::read_to_string(workspace.join("text")).unwrap(),
        fs::read_to_string(workspace.join("sub/README")).unwrap(),
        status["workspace"]["git"].to_string(),
        status["problems"].to_string(),
    ];
    git(&[
        "-c",
        "user.name=x",
        "-c",
        "user.email=x",
        "commit",
        "--quiet",
        "--allow-empty",
        "--message",
        "of the guest",
    ]);
    let gone = site.run(&["destroy"]).ok();
    let is_other = |line: &&str| !of_progress(line) && !line.contains(".bundle") && !line.contains("kept restore");
    found.push(gone.stderr.lines().filter(is_other).collect());
    site.assert_nothing_left();
    assert!(!site.path("executed").exists(), "a program from the settings was run");
    found
}

#[test]
fn no_setting_changes_what_a_machine_gets() {
    let site = Site::new();
    site.script("home/marker", &format!("touch '{}'; exit 1", site.path("executed").display()));
    fs::create_dir_all(site.path("home/template/hooks")).unwrap();
    fs::create_dir_all(site.path("config/git")).unwrap();
    for hook in ["post-checkout", "reference-transaction", "post-index-change"] {
        std::os::unix::fs::symlink(site.path("home/marker"), site.path("home/template/hooks").join(hook)).unwrap();
    }
    site.write("home/attributes", "* text eol=crlf filter=lfs\n");
    site.write("home/included", "[core]\n\tautocrlf = true\n");
    site.git(&["clone", "--quiet", ".", "../sub.origin"]);
    site.git(&["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", "../sub.origin", "sub"]);
    site.commit("text", "one\ntwo\n");
    site.git(&["branch", "other", "HEAD~1"]);
    site.git(&["tag", "v1"]);
    site.write("app/changed", "x");
    let expected = outcome(&site);
    assert!(expected[0].contains("not copied into the machine: 1 uncommitted change in"), "{expected:?}");
    let here = site.path("home").display().to_string();
    // Several groups at a time, because each run takes long.
    for families in FAMILIES.chunks(6) {
        let settings: String = families.iter().map(|(_, settings)| settings.replace("{here}", &here)).collect();
        site.write("home/.gitconfig", settings);
        let names: Vec<_> = families.iter().map(|(name, _)| name).collect();
        assert_eq!(outcome(&site), expected, "{names:?}");
    }
    // Git reads this file without a setting that names it.
    site.write("home/.gitconfig", "");
    site.write("config/git/attributes", "* text eol=crlf\n");
    assert_eq!(outcome(&site), expected, "attributes");
}

#[test]
fn git_variables_are_ignored() {
    let site = Site::new();
    site.script("marker", &format!("touch '{}'; exit 1", site.path("executed").display()));
    let marker = site.path("marker").display().to_string();
    let nowhere = site.path("nowhere").display().to_string();
    let variables = [
        ("GIT_DIR", &nowhere),
        ("GIT_OBJECT_DIRECTORY", &nowhere),
        ("GIT_ALTERNATE_OBJECT_DIRECTORIES", &nowhere),
        ("GIT_CONFIG_PARAMETERS", &"'core.bare'='true'".to_owned()),
        ("GIT_SSH", &marker),
        ("GIT_EXTERNAL_DIFF", &marker),
        ("GIT_PAGER", &marker),
        ("GIT_TEMPLATE_DIR", &nowhere),
        ("GIT_DEFAULT_HASH", &"sha256".to_owned()),
        ("GIT_DEFAULT_REF_FORMAT", &"reftable".to_owned()),
        ("GIT_SHALLOW_FILE", &nowhere),
        ("GIT_REPLACE_REF_BASE", &nowhere),
        ("GIT_ATTR_SOURCE", &"HEAD~9".to_owned()),
        ("GIT_CEILING_DIRECTORIES", &"/".to_owned()),
        ("GIT_ALLOW_PROTOCOL", &"https".to_owned()),
        ("GIT_LITERAL_PATHSPECS", &"0".to_owned()),
        ("GIT_ICASE_PATHSPECS", &"1".to_owned()),
        ("GIT_QUARANTINE_PATH", &nowhere),
        ("GIT_PROTOCOL", &"version=0".to_owned()),
    ];
    let variables = variables.map(|(name, value)| (name, value.as_str()));
    // Control: git itself fails with some of them.
    for variable in &variables[..2] {
        let mut git = site.command(crate::support::which("git").unwrap());
        assert!(!git.envs([*variable]).args(["log", "-1"]).output().unwrap().status.success(), "{variable:?}");
    }
    site.run_with(&variables, &["create"]).ok();
    let workspace = site.machine("app-main").join("workspace");
    assert_eq!(site.git_in(&workspace, &["status", "--porcelain"]), "");
    assert_eq!(site.git_in(&workspace, &["rev-parse", "HEAD"]), site.git(&["rev-parse", "HEAD"]));
    site.run_with(&variables, &["status"]).ok();
    site.run_with(&variables, &["destroy"]).ok();
    assert!(!site.path("executed").exists());
}

/// The user's configuration provides the identity and the ignored files.
#[test]
fn identity_and_ignored_files_come_from_the_user() {
    let site = Site::new();
    for key in ["user.name", "user.email"] {
        site.git(&["config", "--unset", key]);
    }
    site.write(
        "home/.gitconfig",
        format!("[user]\n\tname = Me\n[includeIf \"gitdir:{}/\"]\n\tpath = work\n", site.repo().display()),
    );
    site.write("home/work", "[user]\n\temail = me@work.invalid\n[core]\n\texcludesFile = ~/ignored\n");
    site.write("home/ignored", "*.log\n");
    site.write("app/x.log", "");
    site.run(&["create"]).ok().does_not_say("uncommitted");
    let workspace = site.machine("app-main").join("workspace");
    assert_eq!(site.git_in(&workspace, &["config", "--local", "user.name"]), "Me");
    assert_eq!(site.git_in(&workspace, &["config", "--local", "user.email"]), "me@work.invalid");
    site.write("home/.gitconfig", "[broken\n");
    site.run(&["create", "--branch", "new"]).ok().says("your git configuration is ignored");
}
