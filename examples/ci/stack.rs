//! A copy of the stack for tests in Rust. Copy this file into `tests/`; beside the standard library it needs `serde_json`.
//!
//! Within `lockstep run -- cargo test` every test finds the copy of that run. Without it the first one launches a copy, which
//! goes with [`Stack`], or when its time is over if the tests are killed.

use serde_json::Value;
use std::collections::BTreeMap;
use std::process::{Command, Stdio};

pub struct Stack {
    pub environment: String,
    variables: BTreeMap<String, String>,
    launched_by: Option<Box<dyn Fn() -> Command>>,
}

impl Stack {
    /// `lockstep` says how the program is called: `|| Command::new("lockstep")`.
    pub fn get(base: &str, lockstep: impl Fn() -> Command + 'static) -> Stack {
        let given: BTreeMap<String, String> =
            std::env::vars().filter(|(name, _)| name.starts_with("LOCKSTEP_")).collect();
        if let Some(environment) = given.get("LOCKSTEP_ENVIRONMENT").cloned() {
            return Stack { environment, variables: given, launched_by: None };
        }
        let arguments = ["up", base, "--ephemeral", "--ttl", "10m", "--output", "json"];
        let output = lockstep().args(arguments).stderr(Stdio::inherit()).output().expect("lockstep starts");
        assert!(output.status.success(), "no copy of {base} came up");
        let up: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let variables = up["env"].as_object().into_iter().flatten().map(|(name, value)| (name.clone(), text(value)));
        Stack {
            environment: text(&up["environment"]),
            variables: variables.collect(),
            launched_by: Some(Box::new(lockstep)),
        }
    }

    /// Where a service answers, `LOCKSTEP_CACHE_URL`, or whatever `run.env` of the spec names.
    pub fn variable(&self, name: &str) -> &str {
        self.variables.get(name).unwrap_or_else(|| panic!("the copy gives no {name}"))
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if let Some(lockstep) = &self.launched_by {
            let _ = lockstep().args(["down", &self.environment]).status();
        }
    }
}
