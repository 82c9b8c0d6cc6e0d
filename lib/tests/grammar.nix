# What names look like. The same examples are tried in Python and in Rust, which read the patterns too.
{ policy, ... }:
let
  inherit (builtins) attrNames concatMap filter;
  examples = builtins.fromJSON (builtins.readFile ./grammar-examples.json);
  is = name: text: builtins.match policy.grammar.${name} text != null;
in
{
  grammarTakesWhatIsRight = {
    expr = concatMap (name: filter (text: !is name text) examples.${name}.right) (attrNames examples);
    expected = [ ];
  };
  grammarRefusesWhatIsWrong = {
    expr = concatMap (name: filter (is name) examples.${name}.wrong) (attrNames examples);
    expected = [ ];
  };
}
