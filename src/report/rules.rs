//! What the rules of findings mean, for forms that describe a rule once.

/// A rule: what it says in a few words, and what to do.
pub(super) struct Rule {
    pub title: &'static str,
    pub help: &'static str,
}

/// What is known of a rule; of one that is not listed, its name says it all.
pub(super) fn rule(id: &str) -> Rule {
    let (title, help) = match id {
        "drift" => (
            "An environment is not as the spec says",
            "Somebody changed it by hand, or the spec moved on. `lockstep plan` shows what would put it right, and \
             `lockstep apply` does it.",
        ),
        "parity" => (
            "Two environments differ, and nothing declares it",
            "Apply the spec to the one that strayed, or declare the difference under `differences:` with its reason.",
        ),
        "not-comparable" => (
            "Servers of two versions do not know the same",
            "What only one of them knows was not compared. Run one version in both, and everything is.",
        ),
        "shared-secret" => {
            ("Two environments have the same secret", "Give each environment secrets of its own, and apply them.")
        }
        "unknown" => ("A fact could not be read", "What was not seen is not proven. Find out why it cannot be read."),
        "unreachable" => (
            "An environment could not be read",
            "Nothing is known of it. Find out whether its engine runs and can be reached from here.",
        ),
        "persistence" => ("A server cannot write its data", "Look at the space and the permissions of its volume."),
        "health" => ("A health page says that something is wrong", "Look at the log of the service."),
        "guest" => (
            "A stranger is on a network of the environment",
            "Whoever is on it reaches every service. Take it off, or accept it under `verify.accept` with its reason.",
        ),
        "data" => (
            "Two environments do not hold the same",
            "`lockstep backup create` of both and `lockstep backup diff` name the keys.",
        ),
        "shape" => (
            "The keys of two environments are unlike",
            "What writes them does it differently in one of them, or has not done so for as long.",
        ),
        "page" => (
            "Applications answer differently",
            "Compare what they are built of and what they were given; a proxy between may add a header.",
        ),
        "latency" => (
            "A probe takes twice as long in one environment",
            "Look at the limits of both, at what else runs there, and measure again.",
        ),
        "acceptance" => (
            "An acceptance has expired, or fits nothing",
            "Put right what was accepted, renew the acceptance, or take it out of `verify.accept`.",
        ),
        _ => ("Something to look at", "See the message."),
    };
    Rule { title, help }
}
