//! A `StatefulSet` of Kubernetes whose pod runs `start --foreground` on this host.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Exported, STOP};
use crate::host::hex::hex;

/// Resource of `KubeVirt`'s device plugin for /dev/kvm.
const KVM: &str = "devices.kubevirt.io/kvm";
/// Longest name of a label's value.
const LONGEST: usize = 63;

/// Bytes of the hash in [`label`].
const HASH_BYTES: usize = 4;

/// Returns a name as RFC 1123 has them. One that had to be changed has a hash, because another one may become the same.
fn label(name: &str) -> String {
    let most = LONGEST - "agent-vm-".len() - "-0".len();
    let plain: String =
        name.to_ascii_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let plain = plain.trim_matches('-');
    if plain == name && plain.len() <= most {
        return plain.to_owned();
    }
    let hash = hex(&Sha256::digest(name.as_bytes())[..HASH_BYTES]);
    let start: String = plain.chars().take(most - 1 - hash.len()).collect();
    format!("{}-{hash}", start.trim_end_matches('-'))
}

/// Returns a text as the value of a variable or as a word of a command, in which `$(NAME)` is a variable and `$$` a dollar.
fn literal(text: &str) -> String {
    text.replace('$', "$$")
}

/// Returns the object. Directories of this host are mounted at their own paths, so that the machine's settings stay valid. A pod
/// cannot start without one of them, so `has_config` says whether that of the user's choices exists.
pub fn stateful_set(exported: &Exported, image: &str, has_config: bool) -> Value {
    let Exported { name, args, state, cache, source, toolkit, config, node, user, group, .. } = exported;
    let name = format!("agent-vm-{}", label(name));
    let labels = json!({ "app.kubernetes.io/name": "agent-vm", "app.kubernetes.io/instance": name });
    let paths = [("state", state, false), ("cache", cache, false), ("source", source, true)];
    let toolkit = toolkit.as_ref().map(|path| ("toolkit", path, true));
    let config = has_config.then_some(("config", config, true));
    let paths: Vec<_> = paths.into_iter().chain(toolkit).chain(config).collect();
    let mounts: Vec<_> = paths
        .iter()
        .map(|(name, path, read_only)| json!({ "name": name, "mountPath": path, "readOnly": read_only }))
        .collect();
    let volumes: Vec<_> = paths
        .iter()
        .map(|(name, path, _)| json!({ "name": name, "hostPath": { "path": path, "type": "Directory" } }))
        .collect();
    let variables = exported.environment.iter();
    let environment: Vec<_> = variables.map(|(name, value)| json!({ "name": name, "value": literal(value) })).collect();
    let command: Vec<_> = std::iter::once("agent-vm").chain(args.iter().map(String::as_str)).map(literal).collect();
    let cpu = format!("{}m", exported.processor_percent().saturating_mul(10));
    let limits = json!({ "memory": format!("{}Mi", exported.memory()), "cpu": cpu, KVM: "1" });
    let container = json!({
        "name": "machine",
        "image": image,
        "command": command,
        "env": environment,
        "resources": { "limits": limits },
        "volumeMounts": mounts,
        "securityContext": {
            "runAsUser": user, "runAsGroup": group, "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] },
            // The sandboxes of QEMU and virtiofsd are user namespaces with a new /proc.
            "procMount": "Unmasked", "seccompProfile": { "type": "Unconfined" },
        },
    });
    json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": { "name": name, "labels": labels },
        "spec": {
            "serviceName": name,
            "replicas": 1,
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": {
                    "nodeSelector": { "kubernetes.io/hostname": node },
                    "hostUsers": false,
                    "automountServiceAccountToken": false,
                    "enableServiceLinks": false,
                    "terminationGracePeriodSeconds": STOP,
                    "containers": [container],
                    "volumes": volumes,
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::commands::export::sample;

    #[test]
    fn names_are_valid_and_variables_are_not_expanded() {
        assert_eq!(label("app-main"), "app-main");
        assert!(label("App_main.x-").starts_with("app-main-x-"));
        // The hash at the end of a long name is part of it.
        let [one, other] = ["1", "2"].map(|end| label(&format!("{}{end}", "a".repeat(63))));
        assert_ne!(one, other);
        assert_ne!(label("app-Main"), label("app-main"));
        assert!(label(&"a".repeat(200)).len() + "agent-vm--0".len() <= LONGEST);
        let mut exported = sample();
        exported.args[1] = "/home/me/$(x)$$".to_owned();
        exported.environment[0].1 = "/home/$(me)".to_owned();
        let set = stateful_set(&exported, "registry.example/agent-vm:1", true);
        let pod = &set["spec"]["template"]["spec"];
        assert_eq!(pod["containers"][0]["command"][2], "/home/me/$$(x)$$$$");
        assert_eq!(pod["containers"][0]["env"][0]["value"], "/home/$$(me)");
        assert_eq!(pod["nodeSelector"]["kubernetes.io/hostname"], "box");
        let config = json!({ "name": "config", "mountPath": "/home/me/.config/agent-vm", "readOnly": true });
        let mounts = |set: &Value| set["spec"]["template"]["spec"]["containers"][0]["volumeMounts"].clone();
        assert!(mounts(&set).as_array().unwrap().contains(&config), "{set}");
        assert!(!mounts(&stateful_set(&exported, "x", false)).to_string().contains(".config"));
        // The guest's memory is 4 GiB; an emulated machine needs 2 GiB beside it.
        let memory = exported.settings.memory + 2048;
        assert_eq!(pod["containers"][0]["resources"]["limits"]["memory"], format!("{memory}Mi"));
        assert_eq!(
            pod["volumes"].as_array().unwrap().len(),
            pod["containers"][0]["volumeMounts"].as_array().unwrap().len()
        );
    }
}
