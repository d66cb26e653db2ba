//! Patterns of key names as Redis reads them: `*`, `?`, `[abc]`, `[^a-z]`, and `\` ahead of what is meant as it stands.

/// A pattern, ready to be compared with names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Glob {
    steps: Vec<Step>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Step {
    Byte(u8),
    Any,
    /// From and to, both included.
    Class {
        negated: bool,
        ranges: Vec<(u8, u8)>,
    },
    /// `*`: any number of bytes.
    Run,
}

impl Glob {
    /// Every text is a pattern: what would be wrong means what it means to Redis. A class that does not end goes on to
    /// the end of the pattern, and an empty one matches nothing.
    pub fn new(pattern: &[u8]) -> Glob {
        let mut steps = Vec::new();
        let mut rest = pattern;
        while let Some((first, behind)) = rest.split_first() {
            rest = behind;
            let step = match (first, behind) {
                (b'*', _) => Step::Run,
                (b'?', _) => Step::Any,
                (b'[', _) => class(&mut rest),
                (b'\\', [escaped, behind @ ..]) => {
                    rest = behind;
                    Step::Byte(*escaped)
                }
                (byte, _) => Step::Byte(*byte),
            };
            // Several runs in a row are one.
            if step != Step::Run || steps.last() != Some(&Step::Run) {
                steps.push(step);
            }
        }
        Glob { steps }
    }

    /// How many times `*` stands in it, several in a row counted once.
    pub fn runs(&self) -> usize {
        self.steps.iter().filter(|step| **step == Step::Run).count()
    }

    /// What each `*` stands for in a name that it matches, from where to where. Each but the last is as short as it can be.
    pub fn captures(&self, name: &[u8], into: &mut Vec<(usize, usize)>) -> bool {
        into.clear();
        self.walk(name, |place| match (place, into.last_mut()) {
            (Place::Begins(at), _) => into.push((at, at)),
            (Place::Reaches(at), Some((_, to))) => *to = at,
            (Place::Reaches(_), None) => {}
        })
    }

    pub fn matches(&self, name: &[u8]) -> bool {
        self.walk(name, |_| ())
    }

    /// Goes back to the last run alone, so the time is at most that of the pattern's length for each byte of the name.
    fn walk(&self, name: &[u8], mut see: impl FnMut(Place)) -> bool {
        let (mut step, mut at) = (0, 0);
        let mut run: Option<(usize, usize)> = None;
        loop {
            match (self.steps.get(step), name.get(at)) {
                (None, None) => return true,
                (Some(Step::Run), _) => {
                    run = Some((step, at));
                    see(Place::Begins(at));
                    step += 1;
                    continue;
                }
                (Some(one), Some(byte)) if one.takes(*byte) => {
                    step += 1;
                    at += 1;
                    continue;
                }
                _ => {}
            }
            // Whatever follows the run has to begin one byte later.
            match run {
                Some((began, to)) if to < name.len() => {
                    (step, at) = (began + 1, to + 1);
                    run = Some((began, at));
                    see(Place::Reaches(at));
                }
                _ => return false,
            }
        }
    }
}

/// Of a `*` in a name: where it begins, and how far it reaches by now.
enum Place {
    Begins(usize),
    Reaches(usize),
}

impl Step {
    fn takes(&self, byte: u8) -> bool {
        match self {
            Step::Byte(own) => *own == byte,
            Step::Any => true,
            Step::Class { negated, ranges } => {
                ranges.iter().any(|(from, to)| (*from..=*to).contains(&byte)) != *negated
            }
            Step::Run => false,
        }
    }
}

/// What stands behind a `[`.
fn class(rest: &mut &[u8]) -> Step {
    let negated = rest.first() == Some(&b'^');
    if negated {
        *rest = rest.get(1..).unwrap_or_default();
    }
    let mut ranges = Vec::new();
    loop {
        let (range, behind) = match *rest {
            [] => break,
            [b']', behind @ ..] => {
                *rest = behind;
                break;
            }
            [b'\\', byte, behind @ ..] => ((*byte, *byte), behind),
            [from, b'-', to, behind @ ..] => ((*from.min(to), *from.max(to)), behind),
            [byte, behind @ ..] => ((*byte, *byte), behind),
        };
        ranges.push(range);
        *rest = behind;
    }
    Step::Class { negated, ranges }
}
