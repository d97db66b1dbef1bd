-- Where the value of the one top-level "model" of a JSON object is, without parsing the rest.
-- For every text that is JSON the answer is the one of a parser, or a refusal. Refused is whatever parsers
-- could disagree on: a doubled "model", one in other letter case (some parsers do not tell them apart),
-- escapes in a top-level key (it may spell "model"), text before or after the object.
local find, sub, byte, lower = string.find, string.sub, string.byte, string.lower
local QUOTE, BACKSLASH, OPEN_BRACE, OPEN_BRACKET = 34, 92, 123, 91

-- The closing quote of the string whose first character is at `from`.
local function string_end(text, from)
  while true do
    local quote = find(text, '"', from, true)
    if not quote then return nil end
    local before = quote - 1
    while byte(text, before) == BACKSLASH do before = before - 1 end
    if (quote - before) % 2 == 1 then return quote end
    from = quote + 1
  end
end

-- First and last position of the value, without its quotes; or nil and why there is none.
local function locate(text)
  local _, position = find(text, "^[ \t\r\n]*{")
  if not position then return nil, "The request body must be a JSON object." end
  local depth, first, last = 1, nil, nil
  position = position + 1
  while depth > 0 do
    local at = find(text, '[{}%[%]"]', position)
    if not at then return nil, "The request body is not valid JSON." end
    local char = byte(text, at)
    position = at + 1
    if char == QUOTE then
      local close = string_end(text, position)
      if not close then return nil, "The request body is not valid JSON." end
      position = close + 1
      local _, colon = nil, nil
      if depth == 1 then _, colon = find(text, "^[ \t\r\n]*:[ \t\r\n]*", position) end
      if colon then
        local key = sub(text, at + 1, close - 1)
        if find(key, "\\", 1, true) then
          return nil, "The request body must not have escapes in its top-level keys."
        end
        if #key == 5 and lower(key) == "model" then
          if first or key ~= "model" then
            return nil, "The request body must have exactly one 'model'."
          end
          if byte(text, colon + 1) ~= QUOTE then return nil, "'model' must be a string." end
          close = string_end(text, colon + 2)
          if not close then return nil, "The request body is not valid JSON." end
          first, last = colon + 2, close - 1
          position = close + 1
        end
      end
    elseif char == OPEN_BRACE or char == OPEN_BRACKET then
      depth = depth + 1
    else
      depth = depth - 1
    end
  end
  if not find(text, "^[ \t\r\n]*$", position) then return nil, "The request body is not valid JSON." end
  if not first then return nil, "You must provide a model parameter." end
  return first, last
end
