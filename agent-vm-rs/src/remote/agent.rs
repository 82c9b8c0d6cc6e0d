//! The command that runs a coding agent, or another program, in a machine.

use anyhow::{Context as _, Result};

use crate::guest::manifest::Manifest;
use crate::machine::agents::{Mcp, Preset};
use crate::machine::policy;

/// A program to run in a machine's workspace.
pub struct Program<'a> {
    /// Its command; that of the preset, if there is one.
    pub command: &'a str,
    /// The agent's preset; None for any other program.
    pub preset: Option<&'a Preset>,
    /// Whether the agent asks nothing.
    pub unattended: bool,
    /// The agent's task; without one it reads the terminal.
    pub task: Option<&'a str>,
    /// More arguments.
    pub arguments: &'a [String],
}

impl Program<'_> {
    /// Returns the words of the command. An agent is started by a shell, which tells it the machine's MCP servers.
    ///
    /// # Errors
    /// An argument contains a NUL byte.
    pub fn words(&self, manifest: &Manifest) -> Result<Vec<String>> {
        let Some(preset) = self.preset else {
            return Ok([self.command].into_iter().map(str::to_owned).chain(self.arguments.iter().cloned()).collect());
        };
        let script = self.script(preset, manifest).context("an argument contains a NUL byte")?;
        let text = self.task.map(|task| preset.task.text.iter().map(|word| word.replace("{task}", task)));
        let words = ["sh", "-c", &script, self.command].map(str::to_owned).into_iter();
        Ok(words.chain(self.arguments.iter().cloned()).chain(text.into_iter().flatten()).collect())
    }

    fn script(&self, preset: &Preset, manifest: &Manifest) -> Result<String, shlex::QuoteError> {
        let mut lines = Vec::new();
        for (name, value) in &preset.environment {
            lines.push(format!("export {name}={}", shlex::try_quote(value)?));
        }
        lines.extend(preset.prepare.iter().cloned());
        if let (Some(mcp), Some(state)) = (&preset.mcp, &manifest.service.servers_state) {
            lines.extend(servers(mcp, manifest, state)?);
        }
        let task = self.task.map_or(&[][..], |_| &preset.task.command);
        let unattended = if self.unattended { &preset.unattended[..] } else { &[] };
        let words = [&preset.command].into_iter().chain(task).chain(&preset.arguments).chain(unattended);
        let command = shlex::try_join(words.map(String::as_str))?;
        // An agent with a task reads more of it from its standard input, up to the end.
        let input = if self.task.is_some() { " </dev/null" } else { "" };
        lines.push(format!("exec {command} \"$@\"{input}"));
        Ok(lines.join("\n"))
    }
}

/// Returns the lines of a shell that give an agent the MCP servers. The guest's launcher wrote their names to `state`. They are
/// reached on the loopback, where no token is required.
fn servers(mcp: &Mcp, manifest: &Manifest, state: &str) -> Result<Vec<String>, shlex::QuoteError> {
    let service = &manifest.service;
    let base = format!("http://127.0.0.1:{}", policy::ports().mcp_inner);
    let list = format!(
        "[.servers | to_entries[] | {{name: .value.name, url: ({base} + if .key == 0 then {default} else {named} + .value.name + {default} end)}}]",
        base = json(&base),
        default = json(&service.mcp_path),
        named = json(&format!("{}/", service.servers_path)),
    );
    let filter = format!("{list} | {}", mcp.filter);
    // A file that is missing or broken costs the agent its servers, and nothing else.
    let mut lines = vec![format!(
        "servers=$(jq -r {} {} 2>/dev/null) || servers=",
        shlex::try_quote(&filter)?,
        shlex::try_quote(state)?
    )];
    if let Some((before, after)) = mcp.argument.as_deref().and_then(|pattern| pattern.split_once("{}")) {
        let [before, after] = [shlex::try_quote(before)?, shlex::try_quote(after)?];
        let after = if after == "''" { "".into() } else { after };
        lines.push(format!(
            "while IFS= read -r line; do [ -z \"$line\" ] || set -- {before}\"$line\"{after} \"$@\"; done <<END\n$servers\nEND"
        ));
    }
    if let Some(variable) = &mcp.environment {
        lines.push(format!("[ -z \"$servers\" ] || export {variable}=\"$servers\""));
    }
    if let Some(file) = &mcp.file {
        let file = shlex::try_quote(file)?;
        // What the agent or its user wrote stays. A file that is not JSON is left as it is.
        lines.push(format!(
            "file=\"$HOME\"/{file}\n\
             [ -z \"$servers\" ] || {{ mkdir -p \"${{file%/*}}\" && {{ cat \"$file\" 2>/dev/null || echo '{{}}'; printf '%s\\n' \"$servers\"; }} | jq -es '.[0] * .[1]' >\"$file.new\" 2>/dev/null && mv \"$file.new\" \"$file\"; }}"
        ));
    }
    Ok(lines)
}

/// Returns a text as a string of jq.
fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    use super::*;
    use crate::machine::agents;

    const STATE: &str =
        r#"{ "servers": [{ "name": "codemcp" }, { "name": "a.b" }, { "name": "db" }], "problems": [] }"#;

    /// Runs an agent's command with a stand-in for the agent that prints its arguments, and some variables; returns the lines.
    fn run(name: &str, program: &Program<'_>, state: Option<&str>, home: &Path) -> Vec<String> {
        let (bin, file) = (home.join("bin"), home.join("servers.json"));
        fs::create_dir_all(&bin).unwrap();
        let text = "#!/bin/sh\n[ \"$1\" != login ] || exec cat >\"$HOME/login\"\nprintf '%s\\n' \"$@\"\nfor name in OPENCODE_CONFIG_CONTENT GEMINI_DEFAULT_AUTH_TYPE DISABLE_AUTOUPDATER; do printenv $name && echo \"in $name\"; done\ncat\n";
        fs::write(bin.join(name), text).unwrap();
        fs::set_permissions(bin.join(name), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        match state {
            Some(text) => fs::write(&file, text).unwrap(),
            None => drop(fs::remove_file(&file)),
        }
        let mut manifest = crate::guest::manifest::tests::sample();
        manifest.service.servers_state = Some(file.to_str().unwrap().to_owned());
        let words = program.words(&manifest).unwrap();
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .current_dir(home)
            .env_clear()
            .env("PATH", path)
            .env("HOME", home)
            .env("OPENAI_API_KEY", "placeholder-1");
        let output =
            command.env("GEMINI_API_KEY", "placeholder-2").stdin(std::process::Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    fn agent<'a>(name: &'static str, task: Option<&'a str>, arguments: &'a [String]) -> Program<'a> {
        Program { command: name, preset: agents::find(name), unattended: task.is_some(), task, arguments }
    }

    #[test]
    fn every_agent_learns_the_servers_in_its_own_way() {
        let home = tempfile::tempdir().unwrap();
        let lines = |name, state| run(name, &agent(name, None, &["a b; $(id)".to_owned()]), state, home.path());

        let claude = lines("claude", Some(STATE));
        let config = claude[0].strip_prefix("--mcp-config=").unwrap();
        let config: serde_json::Value = serde_json::from_str(config).unwrap();
        assert_eq!(config["mcpServers"]["codemcp"]["url"], "http://127.0.0.1:8001/mcp");
        assert_eq!(config["mcpServers"]["a.b"]["url"], "http://127.0.0.1:8001/servers/a.b/mcp");
        assert_eq!(claude[1..], ["a b; $(id)", "1", "in DISABLE_AUTOUPDATER"]);

        let codex = lines("codex", Some(STATE));
        assert!(
            codex.contains(&"--config=mcp_servers.codemcp.url=\"http://127.0.0.1:8001/mcp\"".to_owned()),
            "{codex:?}"
        );
        assert!(codex.contains(&"--config=mcp_servers.db.url=\"http://127.0.0.1:8001/servers/db/mcp\"".to_owned()));
        // A dot separates keys there.
        assert!(!codex.iter().any(|line| line.contains("a.b")), "{codex:?}");
        assert!(codex.contains(&"--config=sandbox_mode=\"danger-full-access\"".to_owned()), "{codex:?}");
        assert_eq!(fs::read_to_string(home.path().join("login")).unwrap(), "placeholder-1");

        let opencode = lines("opencode", Some(STATE));
        let config: serde_json::Value = serde_json::from_str(&opencode[1]).unwrap();
        assert_eq!(config["mcp"]["db"]["url"], "http://127.0.0.1:8001/servers/db/mcp");
        assert_eq!(opencode[2], "in OPENCODE_CONFIG_CONTENT");

        let settings = home.path().join(".gemini/settings.json");
        fs::create_dir(home.path().join(".gemini")).unwrap();
        for own in ["{\"ui\":{\"theme\":\"own\"},\"general\":{\"vimMode\":true}}", "// no JSON"] {
            fs::write(&settings, own).unwrap();
            lines("gemini", Some(STATE));
            let text = fs::read_to_string(&settings).unwrap();
            let Ok(config) = serde_json::from_str::<serde_json::Value>(&text) else {
                assert_eq!(text, "// no JSON");
                continue;
            };
            assert_eq!(config["mcpServers"]["db"]["httpUrl"], "http://127.0.0.1:8001/servers/db/mcp");
            assert_eq!((&config["ui"]["theme"], &config["general"]["vimMode"]), (&"own".into(), &true.into()));
        }
        fs::remove_file(&settings).unwrap();
        let gemini = lines("gemini", Some(STATE));
        assert!(fs::read_to_string(&settings).unwrap().contains("servers/db/mcp"));
        assert!(gemini.contains(&"gemini-api-key".to_owned()), "{gemini:?}");

        // A service that has not reported, or reports nonsense, is no obstacle.
        for (name, _) in agents::all() {
            for state in [None, Some("nonsense"), Some("{}")] {
                let lines = lines(name, state);
                assert!(
                    lines.contains(&"a b; $(id)".to_owned()) && !lines.iter().any(|line| line.contains("8001")),
                    "{lines:?}"
                );
            }
        }
    }

    #[test]
    fn a_task_is_unattended_and_its_text_one_word() {
        let home = tempfile::tempdir().unwrap();
        let task = "-fix \"it\"; $(id)\nand 'that'";
        for (name, preset) in agents::all() {
            let printed = run(name, &agent(name, Some(task), &["--model=x".to_owned()]), None, home.path()).join("\n");
            assert!(printed.contains(task) && printed.contains("--model=x"), "{name}: {printed}");
            assert!(preset.unattended.iter().all(|word| printed.contains(word)), "{name}: {printed}");
            // Control: without a task, and by default, it asks.
            let attended = run(name, &agent(name, None, &[]), None, home.path()).join("\n");
            assert!(!preset.unattended.iter().any(|word| attended.contains(word)), "{name}: {attended}");
        }
    }

    #[test]
    fn the_cache_of_aider_is_no_change_of_the_work_tree() {
        let home = tempfile::tempdir().unwrap();
        let git = |args: &[&str]| {
            let output = Command::new("git").args(args).current_dir(home.path()).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        git(&["init", "--quiet"]);
        run("aider", &agent("aider", None, &[]), None, home.path());
        fs::write(home.path().join(".aider.tags.cache.v4/cache.db"), "").unwrap();
        assert!(!git(&["status", "--short", "--untracked-files=all"]).contains("tags.cache"));
        // Control: another file is new.
        fs::write(home.path().join("cache.db"), "").unwrap();
        assert!(git(&["status", "--short", "--untracked-files=all"]).contains("cache.db"));
    }

    #[test]
    fn another_program_gets_its_arguments_alone() {
        let arguments = ["-c".to_owned(), "a b".to_owned()];
        let program = Program { command: "goose", preset: None, unattended: false, task: None, arguments: &arguments };
        assert_eq!(program.words(&crate::guest::manifest::tests::sample()).unwrap(), ["goose", "-c", "a b"]);
    }
}
