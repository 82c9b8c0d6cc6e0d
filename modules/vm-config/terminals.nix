# Descriptions of common terminals, so that programs use the features of the terminal that the user has.
{ lib, ... }:
{
  config.environment.enableAllTerminfo = lib.mkDefault true;
}
