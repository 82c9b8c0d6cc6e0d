# Numbers and sizes.
{ lib }:
let
  inherit (import ./checked.nix { inherit lib; }) checked checkedString firstOf;
  inherit (builtins)
    isInt
    isString
    match
    toString
    ;

  factors = {
    "" = 1;
    K = 1024;
    M = 1024 * 1024;
    G = 1024 * 1024 * 1024;
    T = 1024 * 1024 * 1024 * 1024;
  };
  # "4G", "4 GiB", "4096MB" → bytes; null for anything else.
  bytesOf =
    text:
    let
      parts = match "([0-9]+) *([KMGTkmgt]?)(i?[Bb])?" text;
      digits = builtins.head parts;
      unit = lib.toUpper (builtins.elemAt parts 1);
      # Number of digits that do not overflow Nix's integers.
      most =
        {
          "" = 18;
          K = 15;
          M = 12;
          G = 9;
          T = 6;
        }
        .${unit};
    in
    if parts == null || builtins.stringLength digits > most then
      null
    else
      lib.toIntBase10 digits * factors.${unit};
in
rec {
  inherit bytesOf;

  /**
    Whole number from `least` to `most`. `unit`: a plural noun for what it counts.
  */
  numberFrom =
    {
      least,
      most,
      unit,
      example,
    }:
    checked {
      description = "${unit}, a whole number from ${toString least} to ${toString most}";
      wrong =
        value:
        firstOf [
          {
            broken = isString value && match "[0-9]{1,9}" value != null;
            why = "a string where a number is needed";
            write = toString (lib.toIntBase10 value);
          }
          {
            broken = !isInt value;
            why = "which is not a whole number (${unit})";
            write = toString example;
          }
          {
            broken = value < least || value > most;
            why = "but the range of ${unit} is ${toString least} to ${toString most}";
            write = toString example;
          }
        ];
    };

  /**
    TCP port to listen on.
  */
  port =
    let
      number = numberFrom {
        least = 1;
        most = 65535;
        unit = "ports";
        example = 8000;
      };
    in
    number // { description = "TCP port, from 1 to 65535"; };

  /**
    Size in MiB from `least` to `most`.
  */
  mebibytes =
    {
      least,
      most,
      example,
    }:
    checked {
      description = "size in MiB, from ${toString least} to ${toString most}";
      wrong =
        value:
        let
          bytes = if isString value then bytesOf value else null;
          fits = mebibytes: least <= mebibytes && mebibytes <= most;
          orExample = mebibytes: toString (if fits mebibytes then mebibytes else example);
        in
        firstOf [
          {
            broken = bytes != null;
            why = "a string where a number of MiB is needed";
            write = orExample (if bytes < factors.M then bytes else bytes / factors.M);
          }
          {
            broken = !isInt value;
            why = "which is not a whole number of MiB";
            write = toString example;
          }
          {
            broken = value < least;
            why = "but the unit is MiB and the minimum is ${toString least}";
            write = orExample (value * 1024);
          }
          {
            broken = value > most;
            why = "but the unit is MiB and the maximum is ${toString most}";
            write = orExample (value / factors.M);
          }
        ];
    };

  /**
    Time limit, such as `30m`.
  */
  timeLimit = checkedString {
    description = "time, such as 30m, 2h or 1d";
    example = ''"2h"'';
    wrong =
      value:
      if
        match "([0-9]{1,6}d)?([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?" value != null
        && match ".*[1-9].*" value != null
      then
        null
      else
        {
          why = "which is not a time with units: d, h, m and s";
          write = if match "[1-9][0-9]{0,5}" value != null then builtins.toJSON "${value}m" else ''"2h"'';
        };
  };

  /**
    Calendar expression of systemd.time(7). Only its first word is checked: a date, a time of day, days of the week, or a word
    such as weekly.
  */
  calendar =
    let
      day = "(mon|tue|wed|thu|fri|sat|sun)[a-z]*";
      word = "(minutely|hourly|daily|weekly|monthly|quarterly|semiannually|yearly|annually)";
      date = "[0-9*][0-9*,:/.~-]*";
    in
    checkedString {
      description = "calendar expression of systemd.time(7)";
      example = "\"weekly\"";
      wrong =
        value:
        let
          first = lib.head (lib.splitString " " (lib.toLower value));
        in
        if
          match "${word}|${date}|@[0-9]+|${day}([,.-]+${day})*" first != null && match "[0-9]+" first == null
        then
          null
        else
          {
            why = "which is not a calendar expression of systemd.time(7)";
            write = "\"weekly\"";
          };
    };

  /**
    Time in seconds.
  */
  seconds =
    example:
    checked {
      description = "time in seconds, a whole number from 1";
      wrong =
        value:
        let
          parts = if isString value then match "([0-9]{1,6}) *(s|sec|m|min|h)?" value else null;
          unit = toString (builtins.elemAt parts 1);
          factor =
            if lib.hasPrefix "m" unit then
              60
            else if unit == "h" then
              3600
            else
              1;
        in
        firstOf [
          {
            broken = parts != null;
            why = "a string where a number of seconds is needed";
            write = toString (lib.max 1 (lib.toIntBase10 (builtins.head parts) * factor));
          }
          {
            broken = !isInt value || value < 1;
            why = "which is not a positive number of seconds";
            write = toString example;
          }
        ];
    };

  /**
    Memory limit as in systemd.resource-control(5). `percent`: whether to accept a percentage of the host's memory too.
  */
  memoryLimit =
    { percent }:
    checked {
      description = ''memory limit such as "2G"${lib.optionalString percent ", or a percentage of the host's memory such as \"50%\""}'';
      wrong =
        value:
        let
          bytes = if isString value then bytesOf value else null;
          isLimit = isString value && match "[0-9]{1,12}[KMGT]?" value != null;
          isOther = percent && isString value && match "([1-9][0-9]?|100)%|infinity" value != null;
          # A number without a unit more often means MiB than bytes.
          withUnit = number: ''"${toString number}M"'';
        in
        if isOther then
          null
        else
          firstOf [
            {
              broken = isInt value;
              why = "a number without a unit";
              write = withUnit value;
            }
            {
              broken = bytes != null && !isLimit;
              why = "which systemd does not accept: the unit is K, M, G or T";
              write = ''"${lib.head (match "([0-9]+).*" value)}${lib.toUpper (toString (lib.elemAt (match "[0-9]+ *([KMGTkmgt])?.*" value) 0))}"'';
            }
            {
              broken = bytes == null;
              why = "which is not a memory limit";
              write = ''"2G"'';
            }
            {
              broken = bytes < 64 * factors.M;
              why = "but the minimum is 64M";
              write = if match "[0-9]+" value != null && bytes >= 64 then ''"${value}M"'' else ''"2G"'';
            }
          ];
    };

  /**
    Limit of processor time as in systemd.resource-control(5).
  */
  cpuQuota = checked {
    description = ''processor time such as "150%", 100% for each processor'';
    wrong =
      value:
      firstOf [
        {
          broken = isInt value;
          why = "a number without %: 100% is one processor";
          write = ''"${
            toString (
              if value < 1 then
                100
              else if value <= 32 then
                value * 100
              else
                value
            )
          }%"'';
        }
        {
          broken = !isString value || match "[1-9][0-9]{0,6}%" value == null;
          why = "which is not a percentage: 100% is one processor";
          write =
            if isString value && match "[1-9][0-9]{0,1}" value != null then
              ''"${toString (lib.toIntBase10 value * 100)}%"''
            else
              ''"150%"'';
        }
      ];
  };
}
