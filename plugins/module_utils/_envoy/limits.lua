-- How often a consumer may ask for a model, for the filters after this one. The compiler puts before this file: MEMBERS,
-- a text of lines "consumer TAB table", and TABLES, a text of a line with the name of each table, its lines
-- "TAB model TAB rate" and an empty line.
local find, match = string.find, string.match
local TABLE_OF, RATES = {}, {}
for consumer, name in string.gmatch(MEMBERS, "([^\t\n]+)\t([^\t\n]+)\n") do TABLE_OF[consumer] = name end
for name, lines in string.gmatch(TABLES, "([^\t\n]+)\n(.-\n)\n") do RATES[name] = lines end

function envoy_on_request(handle)
  local headers = handle:headers()
  local model = headers:get("x-gw-model")
  local lines = model and RATES[TABLE_OF[headers:get("x-gw-consumer") or ""]]
  local _, stop = find(lines or "", "\t" .. (model or "") .. "\t", 1, true)
  if stop then headers:replace("x-gw-rate", match(lines, "^%d+", stop + 1)) end
end
