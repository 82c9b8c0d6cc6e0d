# Patterns of the grammar. Tests in Python and Rust use the same examples.
{ policy, ... }:
let
  inherit (builtins) attrNames concatMap filter;
  examples = builtins.fromJSON (builtins.readFile ./grammar-examples.json);
  is = name: text: builtins.match policy.grammar.${name} text != null;
in
{
  grammarAcceptsValidNames = {
    expr = concatMap (name: filter (text: !is name text) examples.${name}.right) (attrNames examples);
    expected = [ ];
  };
  grammarRefusesInvalidNames = {
    expr = concatMap (name: filter (is name) examples.${name}.wrong) (attrNames examples);
    expected = [ ];
  };
}
